//! Stored predictions, and queries over them.

use std::collections::BTreeMap;
use std::time::Duration;

use precis_schemas::topology::REFERENCES;
use precis_schemas::{JobId, queries};
use precis_tests::{Options, Product, eventually, id_of, samples};
use serde_json::{Value, json};

use crate::{PROGRAM, shared};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the view `predictions` has a row of the job that `is_wanted` accepts, and returns it.
async fn row(product: &Product, id: &JobId, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let sql = format!("SELECT * FROM predictions WHERE job_id = '{id}'");
    eventually(PATIENCE, "the row has the expected values", async || {
        let mut rows = product.try_query(&sql).await.ok()?;
        assert!(rows.len() < 2, "{rows:?}");
        rows.pop().filter(&is_wanted)
    })
    .await
}

#[tokio::test]
async fn late_references_are_scored_and_counted_once() {
    let product = shared().await;
    let sample = samples::get("tramway-fare-free");
    let early = product
        .summarize(&json!({"text": sample.article, "reference": sample.reference}))
        .await;
    let late = product.summarize(&json!({"text": sample.article})).await;
    let id = id_of(&late.id);
    let before = row(product, &id, |_| true).await;
    assert_eq!((&before["rouge1"], &before["version"]), (&Value::Null, &json!(0)));

    let path = format!("/v1/jobs/{}/reference", late.id);
    let (status, answer) = product.post(&path, &json!({"reference": sample.reference})).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(answer["reference_chars"], sample.reference.chars().count());
    let after = row(product, &id, |row| !row["rouge1"].is_null()).await;
    let expected = row(product, &id_of(&early.id), |_| true).await;
    for column in [
        "rouge1",
        "rouge2",
        "rougeL",
        "rougeLsum_recall",
        "rouge1_stemmed",
        "bleu",
        "reference",
    ] {
        assert_eq!(after[column], expected[column], "{column}");
    }
    // The last reference wins.
    let (status, _) = product
        .post(&path, &json!({"reference": "Quite another text."}))
        .await;
    assert_eq!(status, 202);
    let last = row(product, &id, |row| row["reference"] == "Quite another text.").await;
    assert_ne!(last["rouge1"], after["rouge1"]);
    assert!(last["version"].as_u64() > after["version"].as_u64());
}

#[tokio::test]
async fn references_for_unknown_jobs_are_refused() {
    let product = shared().await;
    let body = json!({"reference": "A text."});
    let (status, problem) = product
        .post("/v1/jobs/never-seen.999999999/reference", &body)
        .await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (404, Some("job_not_found")),
        "{problem}"
    );
    let done = product
        .summarize(&json!({"text": samples::get("tramway-fare-free").article}))
        .await;
    let path = format!("/v1/jobs/{}/reference", done.id);
    for (body, status, code) in [
        (json!({"reference": " "}), 422, "empty_text"),
        (json!({"reference": "x".repeat(20_001)}), 422, "text_too_long"),
        (json!({"reference": 7}), 400, "invalid_request"),
        (json!({"ref": "x"}), 400, "invalid_request"),
    ] {
        let (found, problem) = product.post(&path, &body).await;
        assert_eq!(
            (found, problem["code"].as_str()),
            (status, Some(code)),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn references_before_the_prediction_or_after_the_result_are_scored() {
    let product = Product::start(
        PROGRAM,
        Options {
            workers: 0,
            ..Options::default()
        },
    )
    .await;
    let sample = samples::get("tramway-fare-free");
    let subject = "jobs.v1.default.normal.summarize.public";
    let body = json!({"id": "early-bird", "text": sample.article}).to_string();
    let sequence = product.publish(subject, body).await;
    let path = format!("/v1/jobs/early-bird.{sequence}/reference");
    let (status, answer) = product.post(&path, &json!({"reference": sample.reference})).await;
    assert_eq!(status, 202, "{answer}");
    let _worker = product.worker("only", &[]);
    let id: JobId = "early-bird".parse().unwrap();
    let early = row(&product, &id, |row| !row["rouge1"].is_null()).await;

    // The result is no longer stored, so only the row's summary is left.
    let jetstream = product.nats().await;
    let results = jetstream
        .get_stream(precis_schemas::topology::RESULTS)
        .await
        .unwrap();
    results.purge().await.unwrap();
    let (status, answer) = product
        .post(&path, &json!({"reference": "The tram is free."}))
        .await;
    assert_eq!(status, 202, "{answer}");
    let late = row(&product, &id, |row| row["reference"] == "The tram is free.").await;
    assert!(
        late["rouge1"].as_f64().is_some() && late["rouge1"] != early["rouge1"],
        "{late}"
    );
    let mut references = jetstream.get_stream(REFERENCES).await.unwrap();
    assert_eq!(references.info().await.unwrap().state.messages, 2);
}

#[tokio::test]
async fn every_named_query_answers_in_every_format() {
    let product = shared().await;
    let sample = samples::get("tramway-fare-free");
    let done = product
        .summarize(&json!({"text": sample.article, "reference": sample.reference}))
        .await;
    row(product, &id_of(&done.id), |_| true).await;
    let (status, list) = product.get("/v1/analytics").await;
    assert_eq!(
        (status, list["queries"].as_array().unwrap().len()),
        (200, queries::all().count())
    );
    // Rollups are refreshed every few seconds.
    eventually(PATIENCE, "the rollups contain the prediction", async || {
        let (status, answer) = product
            .get("/v1/analytics/channels?from=now-15m&channel=api")
            .await;
        assert_eq!(status, 200, "{answer}");
        answer["data"][0]["count"].as_u64().filter(|count| *count > 0)
    })
    .await;
    for query in queries::all() {
        let path = format!("/v1/analytics/{}", query.name);
        // The rollups may contain another prediction before they contain this one with its reference.
        eventually(PATIENCE, "the query has rows", async || {
            let (status, answer) = product.get(&path).await;
            assert_eq!(status, 200, "{}: {answer}", query.name);
            let may_be_empty = ["errors", "drift"].contains(&query.name);
            (answer["rows"].as_u64() > Some(0) || may_be_empty).then_some(())
        })
        .await;
        for (format, media_type) in [
            ("csv", "text/csv"),
            ("arrow", "application/vnd.apache.arrow.stream"),
        ] {
            let address = format!("{}{path}?format={format}", product.api);
            let response = product.http.get(address).send().await.unwrap();
            let found = response.headers()["content-type"].to_str().unwrap().to_owned();
            assert!(
                response.status().is_success() && found.starts_with(media_type),
                "{found}"
            );
            let bytes = response.bytes().await.unwrap();
            assert!(!bytes.is_empty());
            // Only a timestamp's type names a zone in the schema of an Arrow stream.
            let has_zone = bytes.windows(3).any(|part| part == b"UTC");
            let over_time = query
                .parameters
                .iter()
                .any(|parameter| parameter.name == "bucket");
            assert!(
                format == "csv" || has_zone || !over_time,
                "{} in {format}",
                query.name
            );
        }
    }
    for (path, status, code) in [
        ("nonsense", 404, "query_not_found"),
        ("scores?score=rouge9", 422, "invalid_parameter"),
        ("scores?bucket=minute&bucket=hour", 400, "invalid_request"),
        ("scores?model=%27%20OR%201=1%20--", 200, ""),
        ("recent?limit=0", 422, "invalid_parameter"),
        ("channels?channel=rest", 422, "invalid_parameter"),
        ("latency?outcome=won", 422, "invalid_parameter"),
        ("latency?group_by=job_id", 422, "invalid_parameter"),
    ] {
        let (found, answer) = product.get(&format!("/v1/analytics/{path}")).await;
        assert_eq!(
            (found, answer["code"].as_str().unwrap_or("")),
            (status, code),
            "{path}: {answer}"
        );
        assert!(status != 200 || answer["rows"] == 0, "{answer}");
    }
}

/// Compares `GET /history/score` by month with the listed rows.
fn scores_are_of(scores: &Value, listed: &[Value]) {
    for month in scores.as_array().unwrap() {
        let begins = &month["prediction_dt"].as_str().unwrap()[..7];
        for score in ["blue", "rouge1", "rouge2", "rougeL"] {
            let values: Vec<f64> = listed
                .iter()
                .filter(|row| row["prediction_ts"].as_str().unwrap().starts_with(begins))
                .filter_map(|row| row[format!("score_{score}")].as_f64())
                .collect();
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut expected = vec![("min", least), ("avg", mean), ("max", greatest)];
            if values.len() > 1 {
                expected.push(("std", (squares / (count - 1.0)).sqrt()));
            }
            for (aggregate, value) in expected {
                let found = month[format!("{aggregate}_{score}")].as_f64().unwrap();
                assert!(
                    (found - value).abs() < 1e-9,
                    "{aggregate}_{score}: {found}, not {value}"
                );
            }
        }
    }
}

#[tokio::test]
async fn external_predictions_are_logged_and_listed_under_compatible_names() {
    let product = Product::start(
        PROGRAM,
        Options {
            workers: 0,
            ..Options::default()
        },
    )
    .await;
    let ask = async |path: &str| {
        let response = product
            .http
            .get(format!("{}{path}", product.monitor))
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.unwrap())
    };
    let tell = async |path: &str, body: Value| {
        let request = product
            .http
            .post(format!("{}{path}", product.monitor))
            .json(&body);
        let response = request.send().await.unwrap();
        (
            response.status().as_u16(),
            response.json::<Value>().await.unwrap(),
        )
    };
    let (status, problem) = ask("/sample/pair").await;
    assert_eq!(
        (status, &problem["code"]),
        (503, &json!("analytics_unavailable")),
        "{problem}"
    );
    let (status, first) = tell("/db/init", json!({})).await;
    assert_eq!((status, &first["samples"]), (200, &json!(16)), "{first}");
    assert_eq!(tell("/db/init", json!({})).await, (200, first.clone()));
    let stored = product
        .query("SELECT count() AS n, uniqExact(channel) AS channels FROM predictions")
        .await;
    assert_eq!(json!(stored), json!([{"n": first["predictions"], "channels": 8}]));
    let (_, pair) = ask("/sample/pair").await;
    assert!(pair["article"].is_string() && pair["summ"].is_string(), "{pair}");
    let (_, pairs) = ask("/sample/pairs?num_sample=5").await;
    assert_eq!(
        (
            pairs["article"].as_array().unwrap().len(),
            pairs["summ"].as_array().unwrap().len()
        ),
        (5, 5)
    );

    // The rollups of the history may be half computed at this moment.
    let removed = product
        .http
        .delete(format!("{}/v1/sample-history", product.api))
        .send()
        .await
        .unwrap();
    let removed: Value = removed.error_for_status().unwrap().json().await.unwrap();
    assert_eq!(removed, json!({"predictions": 0, "pairs": 0}));
    for table in [
        "predictions",
        "prediction_minutes",
        "prediction_hours",
        "prediction_days",
        "dirty_minutes",
        "drift_days",
        "samples",
    ] {
        let left = product.query(&format!("SELECT count() AS n FROM {table}")).await;
        assert_eq!(left, [json!({"n": 0})], "{table}");
    }

    let one = json!({"article": "It rained all day long.", "summ": "It rained all day.", "target": "Rain fell all day.",
        "model_source": "Lambda", "send_arize": false, "some_field_of_an_old_client": 1});
    assert_eq!(tell("/log/online", one).await, (200, json!(1)));
    let many = json!({"articles": ["A one.", "A two."], "summs": ["One.", "Two."], "targets": ["One.", null],
        "model_source": "Other", "send_arize": false});
    assert_eq!(tell("/log/batch", many).await, (200, json!(1)));
    for (body, code) in [
        (
            json!({"articles": ["A."], "summs": [], "targets": []}),
            "invalid_parameter",
        ),
        (
            json!({"articles": [" "], "summs": ["x"], "targets": []}),
            "empty_text",
        ),
        (json!({"articles": "A."}), "invalid_request"),
    ] {
        let (status, problem) = tell("/log/batch", body).await;
        assert_eq!(
            (status >= 400, &problem["code"]),
            (true, &json!(code)),
            "{problem}"
        );
    }
    let latest = eventually(PATIENCE, "the logged predictions are listed", async || {
        let (status, list) = ask("/history/list?num_record=100").await;
        assert_eq!(status, 200, "{list}");
        (list.as_array().unwrap().len() == 3).then_some(list)
    })
    .await;
    let lambda = latest
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["model_source"] == "Lambda")
        .unwrap();
    assert_eq!(
        (&lambda["document"], &lambda["reference_summary"]),
        (&json!("It rained all day long."), &json!("Rain fell all day."))
    );
    assert!(
        lambda["score_blue"].is_number() && lambda["score_rougeL"].is_number(),
        "{lambda}"
    );
    let (_, counts) = ask("/history/count?last_ts=2020-01-01%2000:00:00&freq=Month").await;
    let total: u64 = counts
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["num_record"].as_u64().unwrap())
        .sum();
    assert_eq!(total, 3, "{counts}");
    let (_, scores) = ask("/history/score?last_ts=2020-01-01%2000:00:00&freq=Month").await;
    let scored: u64 = scores
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["num_record"].as_u64().unwrap())
        .sum();
    assert_eq!(scored, 2, "{scores}");
    scores_are_of(&scores, latest.as_array().unwrap());
    let mut counted: BTreeMap<(String, String), u64> = BTreeMap::new();
    for row in latest.as_array().unwrap() {
        let month = format!("{}-01 00:00:00", &row["prediction_ts"].as_str().unwrap()[..7]);
        let source = row["model_source"].as_str().unwrap().to_owned();
        *counted.entry((month, source)).or_default() += 1;
    }
    let listed: BTreeMap<(String, String), u64> = counts
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            let key = (text("prediction_dt"), text("model_source"));
            (key, row["num_record"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(listed, counted);
    // External predictions have no latencies.
    let times = "SELECT max(end_to_end_ms) AS longest, max(publish_ms) AS publish FROM predictions";
    assert_eq!(product.query(times).await, [json!({"longest": 0, "publish": 0})]);
    let (status, problem) = ask("/history/count?cur_ts=soon").await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_parameter")));
    let channels = product
        .query("SELECT channel, count() AS n FROM predictions GROUP BY channel ORDER BY channel")
        .await;
    assert_eq!(
        json!(channels),
        json!([{"channel": "lambda", "n": 1}, {"channel": "other", "n": 2}])
    );
}
