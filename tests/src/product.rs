//! The product under test.

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;

use crate::folder;
use crate::process::Process;
use crate::wait::eventually;

/// Deviations from the defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of workers that `precis up` starts; 0 if the test starts its own.
    pub workers: usize,
    /// Additional settings as `key=value`.
    pub settings: Vec<String>,
    /// Content of a configuration file, for settings that `key=value` cannot express.
    pub config: String,
    /// Parent folder for a product that is never dropped. `None` means a temporary folder.
    pub shared_in: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 1,
            settings: Vec::new(),
            config: String::new(),
            shared_in: None,
        }
    }
}

/// The product on free ports. Dropping it stops the product and removes its folder.
pub struct Product {
    program: PathBuf,
    dir: TempDir,
    settings: Vec<String>,
    up: Option<Process>,
    /// Number of starts.
    starts: usize,
    /// Address of the API.
    pub api: String,
    /// Address of the monitor.
    pub monitor: String,
    /// Address of the first worker's `/metrics`.
    pub worker_admin: String,
    /// Address of ClickHouse's HTTP interface.
    pub clickhouse: String,
    /// Address of NATS.
    pub nats: String,
    /// An HTTP client.
    pub http: reqwest::Client,
}

/// Ports handed out by this process, so that two concurrent tests never get the same one.
static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// Returns a free port that was not handed out before.
pub fn free_port() -> u16 {
    let mut taken = TAKEN.lock().unwrap();
    let taken = taken.get_or_insert_default();
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        if taken.insert(port) {
            return port;
        }
    }
}

/// Returns the folder that links the downloaded servers: in the build folder, beside the program.
pub fn local_dir(program: &Path) -> PathBuf {
    program
        .parent()
        .expect("a program is in a folder")
        .join("e2e-local")
}

impl Product {
    /// Starts the product and waits until it is up. `program` is `env!("CARGO_BIN_EXE_precis-e2e")`.
    pub async fn start(program: &str, options: Options) -> Self {
        let mut product = Self::new(program, options);
        product.up().await;
        product
    }

    /// Prepares a product without starting it.
    pub fn new(program: &str, options: Options) -> Self {
        // A process has one TLS provider. An earlier test may have installed it.
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let program = PathBuf::from(program);
        let (api, monitor, clickhouse, nats) = (free_port(), free_port(), free_port(), free_port());
        let worker_admin = free_port();
        let dir = match &options.shared_in {
            Some(parent) => folder::shared(parent),
            None => folder::temporary(),
        };
        // Every process of the product runs in this folder and reads the file there.
        std::fs::write(dir.path().join("precis.toml"), &options.config).expect("the folder can be written");
        let mut settings = vec![
            format!("api.listen=127.0.0.1:{api}"),
            format!("monitor.listen=127.0.0.1:{monitor}"),
            format!("clickhouse.url=http://127.0.0.1:{clickhouse}"),
            format!("nats.url=nats://127.0.0.1:{nats}"),
            format!("worker.admin_listen=127.0.0.1:{worker_admin}"),
            format!("standalone.data_dir={}", dir.path().join("data").display()),
            format!("standalone.local_dir={}", local_dir(&program).display()),
            format!("standalone.workers={}", options.workers),
            "monitor.max_block_wait_ms=50".to_owned(),
        ];
        settings.extend(options.settings);
        Self {
            program,
            dir,
            settings,
            up: None,
            starts: 0,
            api: format!("http://127.0.0.1:{api}"),
            monitor: format!("http://127.0.0.1:{monitor}"),
            worker_admin: format!("http://127.0.0.1:{worker_admin}"),
            clickhouse: format!("http://127.0.0.1:{clickhouse}"),
            nats: format!("nats://127.0.0.1:{nats}"),
            http: reqwest::Client::builder()
                .no_proxy()
                // Every test has its own runtime, and a connection dies with the runtime that opened it. Tests share
                // this client, so it must not pool connections.
                .pool_max_idle_per_host(0)
                .build()
                .expect("an HTTP client"),
        }
    }

    fn arguments(&self, command: &str, extra: &[String]) -> Vec<String> {
        let mut arguments = vec![command.to_owned(), "--stop-with-parent".to_owned()];
        for setting in self.settings.iter().chain(extra) {
            arguments.extend(["--set".to_owned(), setting.clone()]);
        }
        arguments
    }

    /// Starts `precis up` on the same data and waits until it is up.
    pub async fn up(&mut self) {
        self.starts += 1;
        let name = format!("up-{}", self.starts);
        let process = Process::start(&self.program, &self.arguments("up", &[]), self.dir.path(), &name);
        let mut process = Some(process);
        // The first start on a machine downloads the servers.
        eventually(Duration::from_secs(900), "the product is up", async || {
            let running = process.as_mut().expect("it was started");
            assert!(!running.output().contains("error:"), "{}", running.output());
            running.output().contains("Precis is up.").then_some(())
        })
        .await;
        self.up = process.take();
    }

    /// Sends SIGINT and waits until every process has exited.
    pub async fn down(&mut self) {
        let status = self.up.take().expect("it is up").interrupt().await;
        assert!(status.success(), "precis up ended with {status}");
    }

    /// Kills `precis up` with SIGKILL.
    pub fn kill(&mut self) {
        self.up.take().expect("it is up").kill();
    }

    /// The process of `precis up`.
    pub fn process(&self) -> &Process {
        self.up.as_ref().expect("it is up")
    }

    /// Starts another process of the product: a `precis` command with the product's settings.
    pub fn command(&self, command: &str, name: &str, extra: &[String]) -> Process {
        Process::start(
            &self.program,
            &self.arguments(command, extra),
            self.dir.path(),
            name,
        )
    }

    /// Like [`Product::command`], with an environment variable.
    pub fn command_with(&self, command: &str, name: &str, variable: (&str, &str)) -> Process {
        Process::start_with(
            &self.program,
            &self.arguments(command, &[]),
            &[variable],
            self.dir.path(),
            name,
        )
    }

    /// Runs a command-line tool with the product's settings, which exits by itself.
    pub fn command_line(&self, command: &str, name: &str, arguments: &[String]) -> Process {
        let mut all = self.arguments(command, &[]);
        all.retain(|argument| argument != "--stop-with-parent");
        all.extend(arguments.iter().cloned());
        Process::start(&self.program, &all, self.dir.path(), name)
    }

    /// Starts one more worker.
    pub fn worker(&self, name: &str, extra: &[&str]) -> Process {
        let mut settings = vec![
            format!("worker.id={name}"),
            format!("worker.admin_listen=127.0.0.1:{}", free_port()),
        ];
        settings.extend(extra.iter().map(|text| (*text).to_owned()));
        self.command("worker", name, &settings)
    }

    /// Returns the folder that contains everything the product and the test write.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the product's data folder, which is part of every process's command line.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }
}

/// Maximum time to stop a dropped product.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(15);

impl Drop for Product {
    fn drop(&mut self) {
        if let Some(up) = self.up.take() {
            up.stop_within(PATIENCE_AT_THE_END);
        }
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("data and logs are kept in {}", self.dir.path().display());
        }
    }
}
