//! The routes of the system that Precis grew out of.

use precis_tests::samples;
use serde_json::{Value, json};

use crate::shared;

#[tokio::test]
async fn both_body_shapes_answer_with_a_bare_summary() {
    let product = shared().await;
    let article = samples::get("tramway-fare-free").article;
    for body in [
        json!({"article": article}),
        json!({"article": {"article": article}, "config": {"num_beans": 2, "temperature": 1}}),
        json!({"article": {"article": article}}),
    ] {
        let (status, answer) = product.post("/article/summarize", &body).await;
        assert_eq!(status, 200, "{answer}");
        assert!(!answer.as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_batch_is_answered_in_order() {
    let product = shared().await;
    let articles: Vec<String> = samples::all()
        .into_iter()
        .take(3)
        .map(|sample| sample.article)
        .collect();
    let config = json!({"num_beams": 1});
    for body in [
        json!({"articles": articles}),
        json!({"articles": {"articles": articles}, "config": config}),
    ] {
        let (status, answer) = product.post("/article/summarize_batch", &body).await;
        assert_eq!(status, 200, "{answer}");
        assert!(
            answer
                .as_array()
                .is_some_and(|list| list.len() == 3 && list.iter().all(Value::is_string)),
            "{answer}"
        );
    }
    let (status, problem) = product.post("/article/summarize", &json!({"article": " "})).await;
    assert_eq!((status, problem["code"].as_str()), (422, Some("empty_text")));
}
