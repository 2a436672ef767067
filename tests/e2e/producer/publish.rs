//! `precis producer publish`.

use serde_json::Value;

use super::{no_op, path_text, run};

#[tokio::test]
async fn texts_and_files_are_summarized_and_the_exit_code_says_how() {
    let product = no_op().await;
    let text = "The bridge closes on Monday. Ferries run instead.";
    let (code, printed, errors) = run(product, "publish-text", &["publish", text, "--wait"]).await;
    assert_eq!(
        (code, printed.as_str()),
        (Some(0), "The bridge closes on Monday.\n"),
        "{errors}"
    );

    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (rain, snow, empty) = (
        file("rain.txt", "Rain fell. It was wet."),
        file("snow.txt", "Snow fell. It was cold."),
        file("empty.txt", " \n"),
    );
    let [rain, snow, empty] = [&rain, &snow, &empty].map(|path| path_text(path));
    let arguments = ["publish", snow, rain, "--wait=120", "--in-order"];
    let (code, printed, _) = run(product, "publish-files", &arguments).await;
    assert_eq!(code, Some(0));
    assert_eq!(printed, format!("{snow}\tSnow fell.\n{rain}\tRain fell.\n"));

    // A text that is refused does not stop the others.
    let arguments = ["publish", empty, rain, "--wait=120", "--json"];
    let (code, printed, errors) = run(product, "publish-refused", &arguments).await;
    assert_eq!(code, Some(3));
    assert!(errors.contains("empty.txt: empty_text"), "{errors}");
    assert!(errors.contains("error: 1 of 2 texts have no summary"), "{errors}");
    let line: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        (line["status"].as_str(), line["summary"].as_str()),
        (Some("succeeded"), Some("Rain fell."))
    );

    let (code, printed, _) = run(product, "publish-only", &["publish", rain]).await;
    let (handle, name) = printed.trim().split_once('\t').unwrap();
    assert_eq!((code, name), (Some(0), rain));
    let job = product.finished(handle).await;
    assert_eq!(job.summary.as_deref(), Some("Rain fell."));
}

#[tokio::test]
async fn a_command_that_can_not_work_says_what_to_do() {
    let product = no_op().await;
    for (name, arguments, code, parts) in [
        (
            "publish-missing",
            &["publish", "artcle.txt"][..],
            3,
            &["no file artcle.txt", "producer publish -"][..],
        ),
        ("publish-wait", &["publish", "30", "--wait"], 3, &["--wait=30"]),
        (
            "publish-param",
            &["publish", "It rained.", "--param", "beams=4"],
            1,
            &["--param beams=4: unknown field `beams`", "num_beams"],
        ),
        (
            "publish-lane",
            &["publish", "It rained.", "--lane", "slow"],
            2,
            &["--lane", "bulk"],
        ),
        (
            "publish-model",
            &["publish", "It rained.", "--model", "a b"],
            1,
            &["--model"],
        ),
        (
            "publish-unserved",
            &["publish", "It rained.", "--model", "nobody", "--wait=1"],
            4,
            &["no summary after 1 s", "--wait=SECONDS"],
        ),
    ] {
        let (status, printed, errors) = run(product, name, arguments).await;
        assert_eq!(status, Some(code), "{name}: {errors}");
        assert!(printed.is_empty(), "{name}: {printed}");
        assert!(parts.iter().all(|part| errors.contains(part)), "{name}: {errors}");
    }
}
