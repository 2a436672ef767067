//! `precis producer queue` and `precis producer dead`.

use precis_tests::{Options, Product};
use serde_json::{Value, json};

use super::{no_op, run};

#[tokio::test]
async fn the_queue_is_shown_as_a_table_and_as_json() {
    let product = no_op().await;
    product
        .summarize(&json!({"text": "Rain fell. It was wet."}))
        .await;
    let (code, printed, errors) = run(product, "queue", &["queue"]).await;
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        printed.contains("default") && printed.contains("bulk"),
        "{printed}"
    );
    assert!(printed.contains("default: 1 worker, "), "{printed}");
    let (code, printed, _) = run(product, "queue-json", &["queue", "--json"]).await;
    let view: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((code, view["workers"].as_array().unwrap().len()), (Some(0), 1));
}

#[tokio::test]
async fn dead_letters_are_listed_replayed_and_purged() {
    let options = Options {
        settings: vec![
            "worker.model=benchmark:no-op".into(),
            "monitor.unserved_grace_seconds=2".into(),
        ],
        ..Options::default()
    };
    let product = Product::start(crate::PROGRAM, options).await;
    let job = json!({"id": "for-nobody", "text": "Rain fell."}).to_string();
    product.publish("jobs.v1.ghost.normal.summarize.acme", job).await;
    product
        .dead_letter(0, |letter| letter.subject.contains("ghost"))
        .await;
    product
        .publish("jobs.v1.default.normal.summarize.other", "no job")
        .await;
    product
        .dead_letter(1, |letter| letter.subject.contains("other"))
        .await;

    let (code, printed, errors) = run(&product, "dead-list", &["dead", "list"]).await;
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(printed.lines().count(), 3, "{printed}");
    let (_, printed, _) = run(
        &product,
        "dead-acme",
        &["dead", "list", "--tenant", "acme", "--json"],
    )
    .await;
    let letter: Value = serde_json::from_str(printed.trim()).unwrap();
    assert_eq!(
        (letter["sequence"].as_u64(), letter["reason"]["code"].as_str()),
        (Some(1), Some("unknown_model"))
    );
    let (_, printed, _) = run(&product, "dead-old", &["dead", "list", "--older-than", "1h"]).await;
    assert_eq!(printed, "no dead letters\n");
    let (_, printed, _) = run(&product, "dead-show", &["dead", "show", "2"]).await;
    let letter: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(letter["body"], "no job");

    let arguments = ["dead", "replay", "--code", "unknown_model", "--dry-run"];
    let (_, printed, _) = run(&product, "dead-dry", &arguments).await;
    assert!(printed.contains("1 dead letter would be replayed"), "{printed}");
    let (code, printed, errors) = run(&product, "dead-replay", &["dead", "replay", "1"]).await;
    assert_eq!(code, Some(0), "{errors}");
    assert!(printed.starts_with("1\treplay-1-"), "{printed}");
    // A message that is no job can't be replayed.
    let (code, _, errors) = run(&product, "dead-refused", &["dead", "replay", "2"]).await;
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("dead letter 2: not_replayable") && errors.contains("1 of 1"),
        "{errors}"
    );
    let (code, printed, errors) = run(&product, "dead-purge", &["dead", "purge", "--tenant", "other"]).await;
    assert_eq!((code, printed.as_str()), (Some(0), "2\n"), "{errors}");

    for (name, arguments, part) in [
        ("dead-which", &["dead", "purge"][..], "say which"),
        (
            "dead-both",
            &["dead", "purge", "1", "--kind", "score"],
            "not both",
        ),
        ("dead-missing", &["dead", "show", "999"], "dead_letter_not_found"),
    ] {
        let (code, _, errors) = run(&product, name, arguments).await;
        assert_eq!(code, Some(1), "{name}");
        assert!(errors.contains(part), "{name}: {errors}");
    }
}

#[tokio::test]
async fn an_absent_gateway_is_named() {
    let product = no_op().await;
    let port = precis_tests::product::free_port();
    let mut arguments = vec!["--set".to_owned(), format!("api.listen=127.0.0.1:{port}")];
    arguments.push("queue".to_owned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (code, _, errors) = run(product, "queue-absent", &arguments).await;
    assert_eq!(code, Some(1));
    assert!(
        errors.contains(&port.to_string()) && errors.contains("api.listen"),
        "{errors}"
    );
}
