//! How each process is started: command line, configuration file, log.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use precis_runtime::Config;

use super::child::ChildSpec;
use super::plan::Plan;
use crate::install::ClickHouseBinary;

/// Largest message of a NATS server that we start: the longest text, as JSON, and its result.
const MAX_PAYLOAD_BYTES: u32 = 4 << 20;

/// This program, which plays every role.
fn own_program() -> anyhow::Result<OsString> {
    Ok(std::env::current_exe().context("finding this program")?.into())
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let what = || path.display().to_string();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(what)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).with_context(what)?;
    file.write_all(text.as_bytes()).with_context(what)
}

/// A text as a string of NATS' configuration language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn nats_config(plan: &Plan, config: &Config, address: SocketAddr) -> String {
    let store = plan.data_dir.join("nats");
    let access = match (&config.nats.token, &config.nats.user) {
        (Some(token), _) => format!("authorization {{ token: {} }}\n", quoted(token.expose())),
        (None, Some(user)) => {
            let password = config.nats.password.as_ref().map_or("", |secret| secret.expose());
            format!(
                "authorization {{ user: {}, password: {} }}\n",
                quoted(user),
                quoted(password)
            )
        }
        (None, None) => String::new(),
    };
    format!(
        "# Written by `precis up` at every start.
server_name: precis
listen: {}
max_payload: {MAX_PAYLOAD_BYTES}
{access}jetstream {{
  store_dir: {}
  max_file_store: 16GB
  max_memory_store: 64MB
  # What is acknowledged is on disk after a second even if the machine loses power.
  sync_interval: 1s
}}
",
        quoted(&address.to_string()),
        quoted(&store.display().to_string()),
    )
}

/// The NATS server.
pub(super) fn nats(
    plan: &Plan,
    config: &Config,
    address: SocketAddr,
    server: &Path,
) -> anyhow::Result<ChildSpec> {
    let file = plan.run_dir().join("nats.conf");
    write_private(&file, &nats_config(plan, config, address))?;
    let arguments = vec![
        "guard".into(),
        "--".into(),
        server.as_os_str().to_owned(),
        "--config".into(),
        file.into_os_string(),
    ];
    Ok(ChildSpec::new("nats", own_program()?, arguments, &plan.log_dir()))
}

/// ClickHouse: the embedded engine, or a server that is installed.
pub(super) fn clickhouse(
    plan: &Plan,
    config: &Config,
    address: SocketAddr,
    binary: &ClickHouseBinary,
) -> anyhow::Result<ChildSpec> {
    let data = plan.data_dir.join("clickhouse");
    let arguments = match binary {
        ClickHouseBinary::Library(library) => {
            let mut arguments: Vec<OsString> = vec![
                "clickhouse".into(),
                "--stop-with-parent".into(),
                "--library".into(),
                library.as_os_str().to_owned(),
                "--path".into(),
                data.into_os_string(),
                "--listen".into(),
                address.to_string().into(),
            ];
            arguments.extend(config_arguments(plan));
            arguments
        }
        ClickHouseBinary::Server(server) => {
            fs::create_dir_all(&data).with_context(|| data.display().to_string())?;
            let mut arguments: Vec<OsString> =
                vec!["guard".into(), "--".into(), server.as_os_str().to_owned()];
            arguments.extend(binary.server_arguments().iter().map(OsString::from));
            arguments.extend([
                "--".into(),
                format!("--path={}/", data.display()).into(),
                format!("--listen_host={}", address.ip()).into(),
                format!("--http_port={}", address.port()).into(),
                format!(
                    "--max_server_memory_usage={}",
                    config.standalone.clickhouse_max_memory_bytes
                )
                .into(),
            ]);
            arguments
        }
    };
    Ok(ChildSpec::new(
        "clickhouse",
        own_program()?,
        arguments,
        &plan.log_dir(),
    ))
}

/// Where this process has its configuration from, for a child to read the same.
fn config_arguments(plan: &Plan) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    if let Some(file) = &plan.config_args.config {
        arguments.extend(["--config".into(), file.as_os_str().to_owned()]);
    }
    for item in &plan.config_args.overrides {
        arguments.extend(["--set".into(), item.into()]);
    }
    arguments
}

/// Every role of ours, in the order in which they are started.
pub(super) fn roles(plan: &Plan) -> anyhow::Result<Vec<ChildSpec>> {
    let program = own_program()?;
    let role = |name: &str, role: &str, extra: Vec<OsString>| {
        let mut arguments: Vec<OsString> = vec![role.into(), "--stop-with-parent".into()];
        arguments.extend(config_arguments(plan));
        arguments.extend(extra);
        ChildSpec::new(name, program.clone(), arguments, &plan.log_dir())
    };
    let mut roles = vec![role("monitor", "monitor", vec![])];
    for (index, address) in plan.workers.iter().enumerate() {
        let listen = vec!["--set".into(), format!("worker.admin_listen={address}").into()];
        roles.push(role(&format!("worker-{}", index + 1), "worker", listen));
    }
    roles.push(role("api", "api", vec![]));
    Ok(roles)
}
