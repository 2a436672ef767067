//! The identity of a worker, and the heartbeat that announces it.

use precis_runtime::clock;
use precis_schemas::event::{Heartbeat, Pace};
use precis_schemas::{Lane, Token};

use crate::model::CurrentModel;

/// Characters of the host name that a generated worker id keeps.
const HOST_CHARS: usize = 40;

/// The identity of a worker, as reported to other roles.
#[derive(Clone)]
pub struct WorkerIdentity {
    /// Id of the worker.
    pub id: Token,
    /// The model that it serves.
    pub model: CurrentModel,
    /// Lanes that it pulls.
    pub lanes: Vec<Lane>,
    /// Most jobs that the engine decodes at a time.
    pub max_batch: usize,
}

impl WorkerIdentity {
    /// Returns a heartbeat for this moment. `leaving` marks the last one before the worker stops.
    pub(crate) fn heartbeat(&self, in_flight: usize, pace: Option<Pace>, leaving: bool) -> Heartbeat {
        let model = self.model.borrow().clone();
        let info = model.engine.info();
        Heartbeat {
            worker: self.id.clone(),
            model: model.signature.model.clone(),
            lanes: self.lanes.clone(),
            device: info.device.to_owned(),
            max_batch: self.max_batch as u64,
            max_input_tokens: info.max_input_tokens as u64,
            default_max_new_tokens: Some(model.default_max_new_tokens()),
            precision: Some(info.precision.to_owned()),
            load_ms: Some(info.load_time.as_secs_f64() * 1e3),
            first_token_ms: Some(model.first_token.as_secs_f64() * 1e3),
            resident_bytes: precis_engine::resident_bytes(),
            in_flight: in_flight as u64,
            pace,
            leaving,
            sent_at: clock::now(),
        }
    }
}

/// Returns the configured worker id, or one made of the host name and a random suffix.
///
/// # Errors
/// When the configured id has characters that a NATS subject must not have.
pub(crate) fn worker_id(configured: Option<&str>) -> anyhow::Result<Token> {
    if let Some(id) = configured {
        return Ok(Token::new("worker.id", id)?);
    }
    let random = uuid::Uuid::now_v7().simple().to_string();
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_else(|_| "worker".into());
    let host: String = host.trim().chars().take(HOST_CHARS).collect();
    Ok(Token::sanitized(&format!("{host}-{}", &random[24..])))
}
