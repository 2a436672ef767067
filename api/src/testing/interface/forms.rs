//! Tests of uploads as forms, and of character sets.

use super::batches::results_of;
use super::*;

/// A form with these pieces, and a counter of the bytes read.
fn form(
    pieces: impl Iterator<Item = Bytes> + Send + 'static,
) -> (Request<Body>, Arc<std::sync::atomic::AtomicUsize>) {
    let taken = Arc::<std::sync::atomic::AtomicUsize>::default();
    let pieces = pieces.map({
        let taken = taken.clone();
        move |piece| {
            taken.fetch_add(piece.len(), Ordering::Relaxed);
            Ok::<_, std::io::Error>(piece)
        }
    });
    let body = Body::from_stream(futures::stream::iter(pieces));
    let request = Request::post("/v1/batches")
        .header(header::CONTENT_TYPE, "multipart/form-data; boundary=cut")
        .body(body)
        .unwrap();
    (request, taken)
}

#[tokio::test]
async fn a_form_without_a_file_is_not_buffered() {
    let api = with_worker();
    let noise = Bytes::from(vec![b'x'; 16 << 10]);
    let head = "--cut\r\ncontent-disposition: form-data; name=\"file\"; filename=\"rows.csv\"\r\n";
    let begun = std::iter::once(Bytes::from(format!("{head}x-more: ")));
    for pieces in [
        Box::new(std::iter::repeat_n(noise.clone(), 4_000)) as Box<dyn Iterator<Item = Bytes> + Send>,
        Box::new(begun.chain(std::iter::repeat_n(noise, 4_000))),
    ] {
        let (request, taken) = form(pieces);
        let refused = api.refused(request, 400, "invalid_request").await;
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains("before its file begins"), "{detail}");
        let taken = taken.load(Ordering::Relaxed);
        assert!(taken < 200_000, "{taken} bytes were read");
    }
    // A long file is accepted, together with its header or after it.
    let rows = format!("article\n{}", "Rain fell over the hills.\n".repeat(1_000));
    let end = "\r\n--cut--\r\n";
    let whole = format!("{head}\r\n{rows}{rest}{end}", rest = "\n".repeat(100_000));
    let (request, _) = form(std::iter::once(Bytes::from(whole)));
    let accepted = api.call(request).await;
    assert_eq!(accepted.body["rows"], 1_000, "{}", accepted.body);
    let pieces = [format!("{head}\r\n"), rows, "\n".repeat(100_000), end.to_owned()];
    let (request, _) = form(pieces.into_iter().map(Bytes::from));
    let accepted = api.call(request).await;
    assert_eq!(accepted.body["rows"], 1_000, "{}", accepted.body);
}

/// A form with the file `rows.csv` and this text, and these fields after it.
fn file_and(rows: &str, fields: &[&str]) -> Request<Body> {
    let part = |head: &str, content: &str| {
        format!("--cut\r\ncontent-disposition: form-data; {head}\r\n\r\n{content}\r\n")
    };
    let mut text = part("name=\"file\"; filename=\"rows.csv\"", rows);
    for field in fields {
        text += &part(field, "{\"num_beams\": 2}");
    }
    text += "--cut--\r\n";
    let (request, _) = form(
        text.into_bytes()
            .chunks(1_000)
            .map(Bytes::copy_from_slice)
            .collect::<Vec<_>>()
            .into_iter(),
    );
    request
}

#[tokio::test]
async fn a_field_after_the_file_is_refused() {
    let api = with_worker();
    assert_eq!(api.call(file_and("article\nRain fell.\n", &[])).await.status, 202);
    let jobs = api.queue.jobs.lock().unwrap().len();
    for (field, name) in [
        ("name=\"params\"", "params"),
        ("name=\"file\"; filename=\"more.csv\"", "file"),
        ("name=\"\"", ""),
    ] {
        let refused = api
            .refused(
                file_and("article\nRain fell.\n", &[field]),
                400,
                "invalid_request",
            )
            .await;
        let detail = refused.body["detail"].as_str().unwrap();
        let expected = format!("the form has the field {name:?} after its file; send the file alone");
        assert!(detail.starts_with(&expected), "{detail}");
    }
    assert_eq!(api.queue.jobs.lock().unwrap().len(), jobs, "no row was queued");
    // The first rows of a long file run, and the refusal names their batch.
    let long = format!("article\n{}", "Rain fell.\n".repeat(500));
    let refused = api
        .refused(file_and(&long, &["name=\"params\""]), 400, "invalid_request")
        .await;
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(
        detail.contains(" is broken: the form has the field \"params\""),
        "{detail}"
    );
    // What follows the file is not buffered.
    let noise = Bytes::from(vec![b'x'; 16 << 10]);
    let head = "--cut\r\ncontent-disposition: form-data; name=\"file\"; filename=\"rows.csv\"\r\n\r\narticle\nRain.\n\r\n--cut\r\nx-more: ";
    let (request, taken) = form(std::iter::once(Bytes::from(head)).chain(std::iter::repeat_n(noise, 4_000)));
    let refused = api.refused(request, 400, "invalid_request").await;
    assert!(
        refused.body["detail"].as_str().unwrap().contains("after it ends"),
        "{}",
        refused.body
    );
    assert!(taken.load(Ordering::Relaxed) < 200_000);
}

#[tokio::test]
async fn a_declared_character_set_is_decoded_and_an_unknown_one_refused() {
    let api = with_worker();
    let csv = |charset: &str| {
        Request::post("/v1/batches")
            .header(header::CONTENT_TYPE, format!("text/csv; charset={charset}"))
            .body(Body::from(&b"article\nCaf\xe9 au lait.\nSnow.\n"[..]))
            .unwrap()
    };
    let accepted = api.call(csv("iso-8859-1")).await;
    let results = format!("{}/results", accepted.header("location"));
    let lines = results_of(&api.call(get(&results)).await);
    assert_eq!(lines[0]["summary"], "CAFÉ AU LAIT.");
    assert_eq!(api.call(csv("utf-8")).await.body["counts"]["refused"], 1);
    api.refused(csv("klingon"), 415, "unsupported_media_type").await;
    let json = Request::post("/v1/batches")
        .header(header::CONTENT_TYPE, "application/json; charset=latin1")
        .body(Body::from("[\"Café.\"]"))
        .unwrap();
    assert_eq!(api.call(json).await.status, 202);
}

#[tokio::test]
async fn a_form_is_read_the_same_however_it_is_cut() {
    let api = with_worker();
    let text = "--cut\r\nContent-Disposition: form-data; name=\"file\"; filename=\"r.csv\"\r\n\r\n\
        \u{feff}\"article\"\r\n\"Caf\u{e9}\r\n--cu\"\r\nSnow.\r\n--cut--\r\n";
    for size in 1..=text.len() {
        let pieces: Vec<Bytes> = text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
        let (request, _) = form(pieces.into_iter());
        let accepted = api.call(request).await;
        assert_eq!(
            accepted.body["counts"]["succeeded"], 2,
            "pieces of {size}: {}",
            accepted.body
        );
    }
}
