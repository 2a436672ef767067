//! A short run of `precis bench faults`.

use std::path::Path;
use std::time::Duration;

use precis_tests::Process;
use precis_tests::product::local_dir;
use serde_json::Value;

use crate::PROGRAM;

/// Runs of the suite, and enough time for them on a slow machine.
const RUNS: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(900);

#[tokio::test]
async fn random_faults_lose_double_and_strand_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let program = Path::new(PROGRAM);
    let local = format!("standalone.local_dir={}", local_dir(program).display());
    let state = folder.path().join("runs.jsonl");
    let arguments = |runs: u64| {
        [
            "bench", "faults", "--seed", "1", "--json", "--set", &local, "--state",
        ]
        .map(str::to_owned)
        .into_iter()
        .chain([state.display().to_string(), "--runs".to_owned(), runs.to_string()])
        .collect::<Vec<_>>()
    };
    let mut suite = Process::start(program, &arguments(RUNS), folder.path(), "suite");
    let status = suite.ended(PATIENCE).await;
    let output = suite.output();
    assert!(status.success(), "{output}");
    let summary: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(summary["runs"], RUNS, "{output}");
    assert!(summary["jobs"].as_u64() >= Some(20 * RUNS), "{output}");
    for broken in [
        "lost",
        "doubled",
        "stranded",
        "webhooks_lost",
        "refused",
        "leaking",
    ] {
        assert_eq!(summary[broken], 0, "{broken}: {output}");
    }
    // Finished runs are not repeated.
    let mut again = Process::start(program, &arguments(RUNS), folder.path(), "again");
    assert!(again.ended(PATIENCE).await.success());
    let printed = again.printed();
    assert!(!printed.contains("of seed"), "{printed}");
    assert_eq!(
        serde_json::from_str::<Value>(printed.lines().last().unwrap()).unwrap(),
        summary
    );
}
