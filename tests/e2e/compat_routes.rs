//! Routes of the services that Precis replaces.

use precis_tests::samples;
use serde_json::{Value, json};

use crate::shared;

#[tokio::test]
async fn both_body_shapes_return_a_bare_summary() {
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
async fn batch_answers_keep_the_order() {
    let product = shared().await;
    let articles: Vec<String> = samples::all()
        .into_iter()
        .take(3)
        .map(|sample| sample.article)
        .collect();
    let config = json!({"num_beams": 1});
    for (path, body) in [
        ("/article/summarize_batch", json!({"articles": articles})),
        (
            "/article/summarize_batch",
            json!({"articles": {"articles": articles}, "config": config}),
        ),
        (
            "/batch-predict",
            json!({"articles": articles, "num_beans": 1, "temperature": 1.0}),
        ),
        ("/invocations", json!({"articles": articles})),
    ] {
        let (status, answer) = product.post(path, &body).await;
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

#[tokio::test]
async fn scores_are_those_of_the_summaries_in_both_shapes() {
    let product = shared().await;
    let pairs: Vec<_> = samples::all().into_iter().take(2).collect();
    let articles: Vec<&String> = pairs.iter().map(|sample| &sample.article).collect();
    let targets: Vec<&String> = pairs.iter().map(|sample| &sample.reference).collect();
    // Without a `config` decoding is greedy and thus deterministic.
    let (status, plain) = product
        .post("/model/score", &json!({"articles": articles, "targets": targets}))
        .await;
    assert_eq!(status, 200, "{plain}");
    let names: Vec<&String> = plain.as_object().unwrap().keys().collect();
    assert_eq!(names, ["rouge1", "rouge2", "rougeL", "rougeLsum"]);
    for body in [
        (
            "/model/score",
            json!({"pairs": {"articles": articles, "targets": targets}}),
        ),
        ("/score", json!({"articles": articles, "targets": targets})),
    ] {
        assert_eq!(product.post(body.0, &body.1).await, (200, plain.clone()));
    }
    let (_, summaries) = product
        .post("/article/summarize_batch", &json!({"articles": articles}))
        .await;
    let rouge = precis_scoring::Rouge::default();
    let mean = summaries
        .as_array()
        .unwrap()
        .iter()
        .zip(&targets)
        .map(|(summary, target)| rouge.score(target, summary.as_str().unwrap()).rouge1.fmeasure)
        .sum::<f64>()
        / 2.0;
    assert!(
        (plain["rouge1"].as_f64().unwrap() - mean).abs() < 1e-12,
        "{plain}"
    );
    assert!(mean > 0.0);
}

#[tokio::test]
async fn lambda_summaries_are_plain_text() {
    let product = shared().await;
    let article = samples::get("tramway-fare-free").article;
    let body = json!({"article": article, "num_beans": 1, "temperature": 1.0});
    let request = product.http.post(format!("{}/online-predict", product.api));
    let response = request.json(&body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    let text = response.text().await.unwrap();
    assert!(!text.is_empty() && !text.starts_with('"'), "{text}");
}
