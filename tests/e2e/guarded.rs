//! A product with API keys that several tests share, and requests with a key.

use precis_tests::processes::{self, Other};
use precis_tests::product::free_port;
use precis_tests::{Options, Process, Product};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::PROGRAM;

/// SHA-256 of the keys below, as `printf %s precis_test_one | sha256sum` prints it.
const CONFIG: &str = r#"
[http]
header_timeout_seconds = 2
body_timeout_seconds = 2

[webhooks]
secret = "whsec_QWxsIG9mIHRoZW0gc2hhcmUgdGhpcyBzZWNyZXQ="
allow_http = true
ports = []
allow_networks = ["127.0.0.2/32"]
first_retry_seconds = 1
deadline_seconds = 15

[[access.keys]]
name = "one"
webhook_secret = "whsec_T25seSB0aGUga2V5IG9uZSBrbm93cyB0aGlzIG9uZQ=="
hash = "sha256:7a016e34bdd16c04d0daa9c61e4bde72b716a329605815b791944b3c7352db07"

[[access.keys]]
name = "two"
hash = "sha256:1386fef4d0d14a834965f40b79d101b4a66031cf6f06199b085be164c7dbc6c2"

[[access.keys]]
name = "few"
hash = "sha256:6ff60562fc716278d0be7562e8b166926b5dbe1fc2f3e02a4a29ef8c74d61198"
max_queued_jobs = 4

[[access.keys]]
name = "bulk"
hash = "sha256:12489a9e99e9ff998f3f31ff71c945a5fb0e2db95dbae898cda35dbd1c63bb48"
lanes = ["bulk"]

[[access.keys]]
name = "operator"
hash = "sha256:4c9ac93f530be818c22425d30ba4d0ce57d8712067bf3eb29d15d62491cf1e1e"
operator = true

[[access.keys]]
name = "slow"
hash = "sha256:c6f5e73c7051c77fcfc8653ab60b7051c242c8be95a0020dd2b3ef093ada7b95"
requests_per_minute = 60
burst = 2
"#;

/// Signs the webhooks of keys that have no secret.
pub(crate) const SECRET_OF_ALL: &str = "whsec_QWxsIG9mIHRoZW0gc2hhcmUgdGhpcyBzZWNyZXQ=";
/// Signs the webhooks of the key `one`.
pub(crate) const SECRET_OF_ONE: &str = "whsec_T25seSB0aGUga2V5IG9uZSBrbm93cyB0aGlzIG9uZQ==";

/// Returns the key of this name.
pub(crate) fn key(name: &str) -> String {
    format!("precis_test_{name}")
}

/// Returns the product with keys, which has one worker.
pub(crate) async fn guarded() -> &'static Product {
    static GUARDED: OnceCell<Product> = OnceCell::const_new();
    GUARDED
        .get_or_init(|| async {
            let options = Options {
                workers: 1,
                config: CONFIG.to_owned(),
                shared_in: Some(env!("CARGO_TARGET_TMPDIR").into()),
                ..Options::default()
            };
            Product::start(PROGRAM, options).await
        })
        .await
}

/// Builds a request to an API at `base` with the named key.
pub(crate) fn request(
    product: &Product,
    base: &str,
    method: Method,
    path: &str,
    name: &str,
) -> RequestBuilder {
    product
        .http
        .request(method, format!("{base}{path}"))
        .bearer_auth(key(name))
}

/// Returns the process of the product's own gateway.
pub(crate) fn gateway_process(product: &Product) -> Other {
    processes::mentioning(&product.data())
        .into_iter()
        .find(|process| {
            // Other gateways get their address on the command line, this one by its environment.
            let has_address = |argument: &String| argument.starts_with("api.listen=");
            process.arguments.get(1).is_some_and(|role| role == "api")
                && !process.arguments.iter().any(has_address)
        })
        .expect("the gateway runs")
}

/// Submits a text.
pub(crate) async fn submit(product: &Product, base: &str, name: &str, body: &Value) -> Response {
    let request = request(product, base, Method::POST, "/v1/summaries", name);
    request.json(body).send().await.expect("the API answers")
}

/// Starts a second gateway. Returns it with its address.
pub(crate) async fn second_gateway(product: &Product, name: &str) -> (Process, String) {
    gateway_with(product, name, &[]).await
}

/// Starts another gateway with its own settings. Returns it with its address.
pub(crate) async fn gateway_with(product: &Product, name: &str, settings: &[&str]) -> (Process, String) {
    let port = free_port();
    let mut all = vec![format!("api.listen=127.0.0.1:{port}")];
    all.extend(settings.iter().map(|setting| (*setting).to_owned()));
    let process = product.command("api", name, &all);
    let base = format!("http://127.0.0.1:{port}");
    precis_tests::eventually(
        std::time::Duration::from_secs(60),
        "the second gateway is ready",
        async || {
            let ready = product.http.get(format!("{base}/readyz")).send().await.ok()?;
            ready.status().is_success().then_some(())
        },
    )
    .await;
    (process, base)
}
