//! A short run of `precis bench cluster`.

use std::path::Path;
use std::time::Duration;

use precis_tests::Process;
use precis_tests::product::local_dir;
use serde_json::Value;

use crate::PROGRAM;

/// Enough time on a slow machine.
const PATIENCE: Duration = Duration::from_secs(900);

#[tokio::test]
#[ignore = "takes minutes: `just verify-cluster` runs the whole of it"]
async fn a_cluster_that_loses_servers_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let program = Path::new(PROGRAM);
    let local = format!("standalone.local_dir={}", local_dir(program).display());
    let arguments = [
        "bench", "cluster", "--kills", "2", "--rate", "4", "--json", "--set", &local,
    ]
    .map(str::to_owned);
    let mut bench = Process::start(program, &arguments, folder.path(), "cluster");
    let status = bench.ended(PATIENCE).await;
    let output = bench.output();
    assert!(status.success(), "{output}");
    let report: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&report["leaders_killed"], &report["emptied"]),
        (&2.into(), &1.into()),
        "{output}"
    );
    assert!(report["jobs"].as_u64() >= Some(20), "{output}");
    for broken in ["lost", "doubled", "stranded", "webhooks_lost", "refused"] {
        assert_eq!(report[broken], 0, "{broken}: {output}");
    }
}
