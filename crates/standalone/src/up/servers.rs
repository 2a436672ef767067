//! Command line, configuration file and environment of each process.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use precis_installer::ClickHouseBinary;
use precis_runtime::Config;

use super::child::ChildSpec;
use super::plan::Plan;

/// Maximum message size of the NATS server: the longest text and its result, as JSON.
const MAX_PAYLOAD_BYTES: u32 = 4 << 20;

/// Garbage collector settings of nats-server: a quarter of the default collections, within a memory limit. On two cores a
/// collection delays every job by about 20 ms, and at 2 000 jobs per second the default collects twice a second.
const NATS_GC_ENVIRONMENT: [(&str, &str); 2] = [("GOGC", "400"), ("GOMEMLIMIT", "2GiB")];

/// Environment variable with the number of threads of the asynchronous runtime. The default is one per core.
const RUNTIME_THREADS: &str = "TOKIO_WORKER_THREADS";

/// Returns the number of runtime threads of a worker.
///
/// Workers share the cores with the gateway and the servers. With one thread per core in each process, the next step of a
/// job waits for steps of other jobs. The model runs on threads of its own.
fn runtime_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).max(1)
}

/// Returns the default environment variables of a role.
fn default_environment(role: &str) -> Vec<(&'static str, String)> {
    let (variable, value) = precis_runtime::allocator::RETURN_MEMORY_ENV;
    match role {
        "worker" => vec![
            (RUNTIME_THREADS, runtime_threads().to_string()),
            (variable, value.to_owned()),
        ],
        _ => vec![],
    }
}

/// Removes variables that the operator has set in this process' environment.
fn unless_set<V: Into<OsString>>(
    variables: impl IntoIterator<Item = (&'static str, V)>,
) -> impl Iterator<Item = (String, OsString)> {
    variables
        .into_iter()
        .filter(|(variable, _)| std::env::var_os(variable).is_none())
        .map(|(variable, value)| (variable.to_owned(), value.into()))
}

/// Returns the path of this program, which runs every role.
fn own_program() -> anyhow::Result<OsString> {
    Ok(std::env::current_exe()
        .context("finding the path of this program")?
        .into())
}

/// Writes a file that only its owner can read.
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

/// Quotes a string for NATS' configuration language.
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
    let monitor = config
        .standalone
        .nats_monitor_port
        .map_or_else(String::new, |port| format!("http: \"127.0.0.1:{port}\"\n"));
    format!(
        "# Written by `precis up` at every start.
server_name: precis
listen: {}
max_payload: {MAX_PAYLOAD_BYTES}
{monitor}{access}jetstream {{
  store_dir: {}
  max_file_store: 16GB
  max_memory_store: 64MB
  # Bounds the loss of acknowledged messages to one second if the machine loses power.
  sync_interval: 1s
}}
",
        quoted(&address.to_string()),
        quoted(&store.display().to_string()),
    )
}

/// Describes the NATS server.
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
    Ok(ChildSpec::new("nats", own_program()?, arguments, &plan.log_dir())
        .with_environment(unless_set(NATS_GC_ENVIRONMENT).collect()))
}

/// Escapes text for an XML element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Returns the configuration of an installed ClickHouse server: HTTP on one address and one user.
fn clickhouse_config(config: &Config, address: SocketAddr, data: &Path) -> String {
    let settings = &config.clickhouse;
    let password = settings.password.as_ref().map_or("", |secret| secret.expose());
    let (user, data) = (escaped(&settings.user), escaped(&data.display().to_string()));
    format!(
        "<!-- Written by `precis up` at every start. -->
<clickhouse>
  <logger><level>warning</level><console>1</console></logger>
  <listen_host>{}</listen_host>
  <http_port>{}</http_port>
  <path>{data}/</path>
  <tmp_path>{data}/tmp/</tmp_path>
  <max_server_memory_usage>{}</max_server_memory_usage>
  <users>
    <{user}>
      <password>{}</password>
      <networks><ip>127.0.0.1</ip><ip>::1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
    </{user}>
  </users>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
</clickhouse>
",
        address.ip(),
        address.port(),
        config.standalone.clickhouse_max_memory_bytes,
        escaped(password),
    )
}

/// Describes ClickHouse: the embedded engine, or an installed server.
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
            let file = plan.run_dir().join("clickhouse.xml");
            write_private(&file, &clickhouse_config(config, address, &data))?;
            let mut arguments: Vec<OsString> =
                vec!["guard".into(), "--".into(), server.as_os_str().to_owned()];
            arguments.extend(binary.server_arguments().iter().map(OsString::from));
            arguments.extend(["--config-file".into(), file.into_os_string()]);
            arguments
        }
    };
    let spec = ChildSpec::new("clickhouse", own_program()?, arguments, &plan.log_dir());
    Ok(spec.with_environment(config_environment(plan)))
}

/// Returns the arguments that make a child load the same configuration file and secrets.
fn config_arguments(plan: &Plan) -> Vec<OsString> {
    let args = &plan.config_args;
    let paths = [("--config", &args.config), ("--secrets-dir", &args.secrets_dir)];
    paths
        .into_iter()
        .filter_map(|(option, path)| Some([option.into(), path.as_ref()?.as_os_str().to_owned()]))
        .flatten()
        .collect()
}

/// Returns the configuration overrides of this process as environment variables.
///
/// Every user can read a command line, and an override may contain a password.
fn config_environment(plan: &Plan) -> Vec<(String, OsString)> {
    let variable = |item: &String| {
        let (key, value) = item.split_once('=')?;
        let name = format!("PRECIS__{}", key.trim().to_uppercase().replace('.', "__"));
        Some((name, OsString::from(value)))
    };
    plan.config_args.overrides.iter().filter_map(variable).collect()
}

/// Describes the roles in starting order: the monitor first, so that it sees every result; the API last, so that the product
/// works once the API responds.
pub(super) fn roles(plan: &Plan, config: &Config) -> anyhow::Result<Vec<ChildSpec>> {
    let program = own_program()?;
    let spec = |name: &str, role: &str, extra: Vec<OsString>| {
        let environment = config_environment(plan)
            .into_iter()
            .chain(unless_set(default_environment(role)))
            .collect();
        let mut arguments: Vec<OsString> = vec![role.into(), "--stop-with-parent".into()];
        arguments.extend(config_arguments(plan));
        arguments.extend(extra);
        ChildSpec::new(name, program.clone(), arguments, &plan.log_dir())
            .with_environment(environment)
            .with_drain(Duration::from_secs(config.worker.drain_seconds))
    };
    let mut roles = Vec::new();
    if plan.monitor {
        roles.push(spec("monitor", "monitor", vec![]));
    }
    for (index, address) in plan.workers.iter().enumerate() {
        let listen = vec!["--set".into(), format!("worker.admin_listen={address}").into()];
        roles.push(spec(&format!("worker-{}", index + 1), "worker", listen).with_retirement());
    }
    roles.push(spec("api", "api", vec![]));
    Ok(roles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_workers_get_default_variables() {
        let variables: Vec<&str> = default_environment("worker")
            .iter()
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(
            variables,
            ["TOKIO_WORKER_THREADS", "MIMALLOC_DISALLOW_ARENA_ALLOC"]
        );
        assert!(
            ["api", "monitor"]
                .iter()
                .all(|role| default_environment(role).is_empty())
        );
    }
}
