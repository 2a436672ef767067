//! Search in predictions.

use std::time::Duration;

use precis_tests::{eventually, id_of};
use reqwest::Method;
use serde_json::{Value, json};

use crate::guarded::{guarded, request, submit};
use crate::shared;

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn predictions_are_found_by_phrase_metadata_and_range_page_by_page() {
    let product = shared().await;
    // A word that no other test uses, in odd case.
    let text =
        |row: usize| format!("The Quokkafest opened on day {row}. Rain fell over the hills all night.");
    let mut ids = Vec::new();
    for row in 0..3 {
        let body = json!({
            "text": text(row), "reference": "The festival opened.", "metadata": {"row": row.to_string(), "set": "quokka"},
        });
        ids.push(id_of(&product.summarize(&body).await.id).to_string());
    }
    let list = async |query: &str| -> Vec<Value> {
        let (status, answer) = product.get(&format!("/v1/predictions?{query}")).await;
        assert_eq!(status, 200, "{query}: {answer}");
        answer["data"].as_array().unwrap().clone()
    };
    let jobs = |rows: &[Value]| -> Vec<String> {
        rows.iter()
            .map(|row| row["job_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let latest_first: Vec<String> = ids.iter().rev().cloned().collect();
    eventually(PATIENCE, "all rows are stored", async || {
        (list("q=quokkaFEST").await.len() == 3).then_some(())
    })
    .await;
    assert_eq!(jobs(&list("q=quokkaFEST").await), latest_first);
    assert_eq!(jobs(&list("metadata=row=1&q=quokkafest").await), [ids[1].clone()]);
    assert_eq!(jobs(&list(&format!("q={}", ids[2])).await), [ids[2].clone()]);
    for nothing in [
        "outcome=failed",
        "min_score=1.1",
        "channel=batch",
        "min_ms=1e12",
        "to=now-1h&from=now-2h",
        "lane=high",
    ] {
        assert_eq!(
            list(&format!("q=quokkafest&{nothing}")).await,
            Vec::<Value>::new(),
            "{nothing}"
        );
    }
    assert_eq!(
        list("q=quokkafest&min_score=0&max_score=1&score=rougeL")
            .await
            .len(),
        3
    );

    // Pages neither repeat nor miss a row.
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = list(&format!("metadata=set=quokka&limit=2&after={after}")).await;
        let Some(last) = page.last() else { break };
        after = last["cursor"].as_str().unwrap().to_owned();
        paged.extend(jobs(&page));
    }
    assert_eq!(paged, latest_first);

    let (status, one) = product.get(&format!("/v1/predictions/{}", ids[0])).await;
    assert_eq!(
        (status, one["text"].as_str()),
        (200, Some(text(0).as_str())),
        "{one}"
    );
    assert_eq!(one["metadata"]["row"], "0");
    assert!(one["rouge1"].is_f64() && one["params"].is_string());
    assert_eq!(product.get("/v1/predictions/never").await.0, 404);
    for (bad, status) in [
        ("min_score=x", 422),
        ("outcome=best", 422),
        ("limit=0", 422),
        ("nope=1", 400),
    ] {
        let (found, problem) = product.get(&format!("/v1/predictions?{bad}")).await;
        assert_eq!(found, status, "{bad}: {problem}");
    }
}

#[tokio::test]
async fn a_key_sees_only_predictions_of_its_tenant() {
    let product = guarded().await;
    let body = json!({"text": "The Numbatfair opened on Monday. Rain fell over the hills."});
    let accepted: Value = submit(product, &product.api, "one", &body)
        .await
        .json()
        .await
        .unwrap();
    let id = id_of(accepted["id"].as_str().unwrap());
    let found = async |name: &str| {
        let answer = request(
            product,
            &product.api,
            Method::GET,
            "/v1/predictions?q=numbatfair",
            name,
        );
        let answer: Value = answer.send().await.unwrap().json().await.unwrap();
        answer["rows"].as_u64().unwrap()
    };
    eventually(PATIENCE, "the row is stored", async || {
        (found("one").await == 1).then_some(())
    })
    .await;
    assert_eq!(found("two").await, 0);
    for (name, status) in [("one", 200), ("two", 404)] {
        let path = format!("/v1/predictions/{id}");
        let answer = request(product, &product.api, Method::GET, &path, name)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), status, "{name}");
    }
    let foreign = request(
        product,
        &product.api,
        Method::GET,
        "/v1/predictions?tenant=one",
        "two",
    );
    assert_eq!(foreign.send().await.unwrap().status().as_u16(), 403);
}
