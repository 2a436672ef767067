//! The product under test.

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use precis_schemas::rest::{JobView, Status};
use precis_schemas::{JobId, JobResult, subject};
use serde_json::Value;

use crate::process::Process;

/// What differs from the defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// Workers that `precis up` starts; 0 when the test starts its own.
    pub workers: usize,
    /// More settings, as `key=value`.
    pub settings: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 1,
            settings: Vec::new(),
        }
    }
}

/// The product on free ports.
pub struct Product {
    program: PathBuf,
    dir: tempfile::TempDir,
    settings: Vec<String>,
    up: Option<Process>,
    /// How often it was started.
    starts: usize,
    /// Address of the API.
    pub api: String,
    /// Address of the monitor.
    pub monitor: String,
    /// Address of ClickHouse's HTTP interface.
    pub clickhouse: String,
    /// Address of NATS.
    pub nats: String,
    /// An HTTP client.
    pub http: reqwest::Client,
}

/// Ports handed out in this process, so that two tests at once don't get the same one.
static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port that is free now and was not handed out before.
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

/// Where fetched servers are linked for the tests: in the build folder, beside the program.
fn local_dir(program: &Path) -> PathBuf {
    program
        .parent()
        .expect("a program is in a folder")
        .join("e2e-local")
}

impl Product {
    /// Starts the product and waits until it is up. `program` is `env!("CARGO_BIN_EXE_precis-e2e")`.
    pub async fn start(program: &str, options: Options) -> Self {
        // One TLS provider for the process; an earlier test may have set it.
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        let program = PathBuf::from(program);
        let (api, monitor, clickhouse, nats) = (free_port(), free_port(), free_port(), free_port());
        let dir = tempfile::Builder::new()
            .prefix("precis-e2e-")
            .tempdir()
            .expect("a temporary folder");
        let mut settings = vec![
            format!("api.listen=127.0.0.1:{api}"),
            format!("monitor.listen=127.0.0.1:{monitor}"),
            format!("clickhouse.url=http://127.0.0.1:{clickhouse}"),
            format!("nats.url=nats://127.0.0.1:{nats}"),
            format!("worker.admin_listen=127.0.0.1:{}", free_port()),
            format!("standalone.data_dir={}", dir.path().join("data").display()),
            format!("standalone.local_dir={}", local_dir(&program).display()),
            format!("standalone.workers={}", options.workers),
            "monitor.max_block_wait_ms=50".to_owned(),
        ];
        settings.extend(options.settings);
        let mut product = Self {
            program,
            dir,
            settings,
            up: None,
            starts: 0,
            api: format!("http://127.0.0.1:{api}"),
            monitor: format!("http://127.0.0.1:{monitor}"),
            clickhouse: format!("http://127.0.0.1:{clickhouse}"),
            nats: format!("nats://127.0.0.1:{nats}"),
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("an HTTP client"),
        };
        product.up().await;
        product
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
        // The first start on a machine fetches the servers.
        eventually(Duration::from_secs(900), "the product is up", async || {
            let running = process.as_mut().expect("it was started");
            assert!(!running.output().contains("error:"), "{}", running.output());
            running.output().contains("Precis is up.").then_some(())
        })
        .await;
        self.up = process.take();
    }

    /// Ctrl-C, and wait until everything has ended.
    pub async fn down(&mut self) {
        let status = self.up.take().expect("it is up").interrupt().await;
        assert!(status.success(), "precis up ended with {status}");
    }

    /// The process of `precis up`.
    pub fn process(&self) -> &Process {
        self.up.as_ref().expect("it is up")
    }

    /// Starts one more process of the product: a command of `precis` with the product's settings.
    pub fn command(&self, command: &str, name: &str, extra: &[String]) -> Process {
        Process::start(
            &self.program,
            &self.arguments(command, extra),
            self.dir.path(),
            name,
        )
    }

    /// Runs a command for people with the product's settings; it ends by itself.
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

    /// The folder of the product's data and logs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Posts JSON to a path of the API; the status and the answer.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.api)).json(body);
        answer(request.send().await.expect("the API answers")).await
    }

    /// Gets a path of the API; the status and the answer.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(
            self.http
                .get(format!("{}{path}", self.api))
                .send()
                .await
                .expect("the API answers"),
        )
        .await
    }

    /// Submits a text and returns the job as accepted.
    pub async fn submit(&self, body: &Value) -> JobView {
        let (status, view) = self.post("/v1/summaries", body).await;
        assert_eq!(status, 202, "{view}");
        serde_json::from_value(view).expect("a job")
    }

    /// Submits a text and waits for its summary in the same request.
    pub async fn summarize(&self, body: &Value) -> JobView {
        let request = self
            .http
            .post(format!("{}/v1/summaries", self.api))
            .header("prefer", "wait=100");
        let (status, view) = answer(request.json(body).send().await.expect("the API answers")).await;
        assert_eq!(status, 200, "{view}");
        serde_json::from_value(view).expect("a job")
    }

    /// Polls a job until it has ended.
    pub async fn finished(&self, id: &str) -> JobView {
        eventually(Duration::from_secs(120), "the job has ended", async || {
            let (status, view) = self.get(&format!("/v1/jobs/{id}")).await;
            assert_eq!(status, 200, "{view}");
            let view: JobView = serde_json::from_value(view).expect("a job");
            view.status.is_final().then_some(view)
        })
        .await
    }

    /// Waits until a job is running.
    pub async fn running(&self, id: &str) -> JobView {
        eventually(Duration::from_secs(60), "the job is running", async || {
            let (_, view) = self.get(&format!("/v1/jobs/{id}")).await;
            let view: JobView = serde_json::from_value(view).ok()?;
            assert!(!view.status.is_final(), "it has ended already: {view:?}");
            (view.status == Status::Running).then_some(view)
        })
        .await
    }

    /// A connection to the product's NATS.
    pub async fn nats(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(async_nats::connect(&self.nats).await.expect("NATS answers"))
    }

    /// The stored result of a job, when there is one.
    pub async fn result(&self, id: &JobId) -> Option<JobResult> {
        let stream = self
            .nats()
            .await
            .get_stream("RESULTS")
            .await
            .expect("the stream is there");
        let message = stream
            .get_last_raw_message_by_subject(&subject::result_of(id))
            .await
            .ok()?;
        Some(serde_json::from_slice(&message.payload).expect("a result"))
    }

    /// Runs a query on ClickHouse; one JSON object for each row.
    pub async fn query(&self, sql: &str) -> Vec<Value> {
        let request = self.http.post(format!(
            "{}/?database=precis&default_format=JSONEachRow",
            self.clickhouse
        ));
        let response = request
            .body(sql.to_owned())
            .send()
            .await
            .expect("ClickHouse answers");
        let (status, text) = (response.status(), response.text().await.expect("a text"));
        assert!(status.is_success(), "{sql}: {text}");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a JSON object"))
            .collect()
    }

    /// The rows of a job, once there is one.
    pub async fn rows_of(&self, id: &JobId) -> Vec<Value> {
        let sql = format!("SELECT * FROM predictions WHERE job_id = '{id}'");
        eventually(Duration::from_secs(60), "the row is there", async || {
            let rows = self.query(&sql).await;
            (!rows.is_empty()).then_some(rows)
        })
        .await
    }
}

async fn answer(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.expect("a text");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Tries until there is a value; panics when that takes longer than `patience`.
pub async fn eventually<T>(patience: Duration, what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + patience;
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(Instant::now() < give_up, "waited {patience:?} until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The id in a job's handle.
pub fn id_of(handle: &str) -> JobId {
    handle.parse::<precis_schemas::JobHandle>().expect("a handle").id
}
