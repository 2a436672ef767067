//! Webhooks that must not be delivered: to another tenant's receiver, or to an untrusted certificate.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::contracts::python;

/// Writes a certificate authority's certificate into a folder, and receivers' certificates with keys: a valid one, one
/// of another authority, one for another name.
async fn make_certificates(folder: &Path) {
    let folder = folder.to_owned();
    let make = move || {
        let output = Command::new(python())
            .arg(crate::contracts::folder().join("certificates.py"))
            .arg(folder)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    tokio::task::spawn_blocking(make).await.unwrap();
}

/// Accepts TLS connections.
struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            // A client that does not trust the certificate closes the connection here.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Receiver {
    /// Starts a TLS receiver with the certificate and key in a file.
    async fn with_tls(file: &Path) -> Self {
        let pem = std::fs::read(file).unwrap();
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let key = PrivateKeyDer::from_pem_slice(&pem).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates.unwrap(), key)
            .unwrap();
        let listener = TcpListener::bind(("127.0.0.2", 0)).await.unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::serving(Tls { listener, acceptor }, "https").await
    }
}

#[tokio::test]
async fn webhooks_over_tls_need_a_trusted_certificate() {
    let folder = tempfile::tempdir().unwrap();
    make_certificates(folder.path()).await;
    let options = Options {
        config: format!(
            "[webhooks]\nsecret = \"{SECRET_OF_ALL}\"\nports = []\nallow_networks = [\"127.0.0.2/32\"]\n\
             ca_file = {:?}\nfirst_retry_seconds = 1\ndeadline_seconds = 3\n",
            folder.path().join("authority.pem")
        ),
        ..Options::default()
    };
    let product = Product::start(PROGRAM, options).await;
    let trusted = Receiver::with_tls(&folder.path().join("trusted.pem")).await;
    let unknown = Receiver::with_tls(&folder.path().join("unknown.pem")).await;
    let misnamed = Receiver::with_tls(&folder.path().join("misnamed.pem")).await;
    let dead = product.last_dead_letter().await;
    let mut ids = Vec::new();
    for receiver in [&trusted, &unknown, &misnamed] {
        let (status, job) = product.post("/v1/summaries", &rain(&receiver.url("/tls"))).await;
        assert_eq!(status, 202, "{job}");
        ids.push(job["id"].as_str().unwrap().to_owned());
    }
    let call = trusted.called("/tls", 1).await.remove(0);
    assert_eq!(call.event()["data"]["id"], ids[0]);
    assert!(call.is_signed_with(SECRET_OF_ALL).await, "{call:?}");
    for (id, problem) in [(&ids[1], "UnknownIssuer"), (&ids[2], "not valid for name")] {
        let (code, reason) = given_up(&product, dead, id).await;
        assert_eq!(code, "callback_failed");
        assert!(
            reason.contains("TLS handshake with the receiver failed") && reason.contains(problem),
            "{reason}"
        );
    }
    assert!(unknown.calls("/tls").is_empty() && misnamed.calls("/tls").is_empty());
}

#[tokio::test]
async fn reusing_another_tenants_job_id_reveals_no_result() {
    let product = guarded().await;
    let receiver = Receiver::start().await;
    let answer = submit(
        product,
        &product.api,
        "one",
        &json!({"text": "The safe is behind the picture. It was wet."}),
    )
    .await;
    let handle = answer.json::<Value>().await.unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let id = id_of(&handle);
    let path = format!("/v1/jobs/{handle}?wait=100");
    let job = request(product, &product.api, Method::GET, &path, "one");
    let job: Value = job.send().await.unwrap().json().await.unwrap();
    assert_eq!(job["status"], "succeeded", "{job}");
    // A NATS publisher chooses ids. This id is taken, and its result belongs to another job.
    let dead = product.last_dead_letter().await;
    let body = json!({
        "id": id,
        "text": "Rain fell over the hills. It was wet.",
        "callback": {"url": receiver.url("/stolen")},
    });
    product
        .publish("jobs.v1.default.normal.summarize.two", body.to_string())
        .await;
    let (webhook, code, reason) = buried(product, dead, id.clone()).await;
    // The job that took the id has another queue sequence.
    assert!(webhook.starts_with(&format!("job_{id}_")), "{webhook}");
    assert_ne!(webhook, webhook_id_of(&handle));
    assert_eq!(code, "job_not_found", "{reason}");
    assert!(reason.contains("another tenant"), "{reason}");
    assert!(receiver.calls("/stolen").is_empty());
}
