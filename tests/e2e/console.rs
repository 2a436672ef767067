//! The console in a real browser. `just verify-console` runs the other browser tests.

use precis_tests::Browser;
use serde_json::json;

use crate::shared;

/// A text that would run a script if the page did not escape it.
const TEXT: &str = "The harbour bridge will close on Monday, the city said <img src=x onerror=\"document.title='broken'\">. \
                    Ferries will run every ten minutes until it opens again in March.";

#[tokio::test]
async fn a_browser_summarizes_a_text_and_shows_where_it_comes_from() {
    let Some(program) = Browser::find("a_browser_summarizes_a_text_and_shows_where_it_comes_from") else {
        return;
    };
    let product = shared().await;
    let mut browser = Browser::start(program).await;
    browser
        .open(&format!("{}/#/summarize?num_beams=2", product.api))
        .await;
    browser.until("document.querySelector('textarea.text')").await;
    let text = json!(TEXT);
    browser
        .run(&format!(
            "{{ const field = document.querySelector('textarea.text'); field.value = {text};
                field.dispatchEvent(new Event('input', {{bubbles: true}})); }}"
        ))
        .await;
    browser
        .until("!document.querySelector('.run-bar .primary').disabled")
        .await;
    browser
        .run("document.querySelector('.run-bar .primary').click()")
        .await;
    browser.until("document.querySelector('.status.succeeded')").await;

    let id = browser
        .run("new URLSearchParams(location.hash.split('?')[1]).get('job')")
        .await;
    let id = id.as_str().expect("the address names the job").to_owned();
    let (status, job) = product.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(
        (status, job["params"]["num_beams"].as_u64()),
        (200, Some(2)),
        "{job}"
    );
    let shown = browser
        .run("document.querySelector('.summary').textContent")
        .await;
    assert_eq!(shown, job["summary"]);

    // Focusing a sentence marks its source.
    browser.run("document.querySelector('.sentence').focus()").await;
    browser.until("document.querySelector('.reading mark')").await;
    assert_eq!(
        browser
            .run("document.querySelector('.reading').textContent")
            .await,
        text
    );
    assert_eq!(
        browser
            .run("document.querySelectorAll('img[src=x]').length")
            .await,
        0
    );

    // The address alone brings the result back.
    browser.run("location.reload()").await;
    browser.until("document.querySelector('.status.succeeded')").await;
    assert_eq!(
        browser
            .run("document.querySelector('.summary').textContent")
            .await,
        shown
    );
    assert_eq!(browser.problems, Vec::<String>::new());
}

#[tokio::test]
async fn programs_get_entry_points_and_browsers_a_protected_page() {
    let product = shared().await;
    let (status, entry) = product.get("/").await;
    assert_eq!((status, entry["name"].as_str()), (200, Some("precis")));
    let page = product
        .http
        .get(format!("{}/", product.api))
        .header("accept", "text/html")
        .send();
    let page = page.await.unwrap();
    let header = |name: &str| page.headers()[name].to_str().unwrap().to_owned();
    assert!(header("content-type").starts_with("text/html"));
    assert!(header("content-security-policy").contains("script-src 'self';"));
    assert!(!header("content-security-policy").contains("unsafe"));
    assert_eq!(header("x-frame-options"), "DENY");
    let tag = header("etag");
    assert!(page.text().await.unwrap().contains("/console/app.js"));
    let again = product
        .http
        .get(format!("{}/", product.api))
        .header("accept", "text/html");
    let again = again.header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status().as_u16(), 304);
}
