//! An API key with its permissions and limits.

use precis_runtime::config::{ApiKey, KeyHash};
use precis_schemas::{Lane, Token};

use super::quota::Quota;
use super::rate::Rate;

/// A key as the gateway holds it.
#[derive(Debug)]
pub(crate) struct Key {
    pub(super) name: Token,
    pub(super) hash: KeyHash,
    pub(super) tenant: Token,
    /// Whether it sees the jobs of every tenant.
    pub(super) operator: bool,
    /// Lanes that the key may submit to; all when empty.
    pub(super) lanes: Vec<Lane>,
    /// Models that the key may use; all when empty.
    pub(super) models: Vec<String>,
    pub(super) rate: Option<Rate>,
    pub(super) quota: Option<Quota>,
}

impl Key {
    /// Creates the key of these settings.
    pub(super) fn new(settings: &ApiKey) -> Self {
        Self {
            // The configuration has checked both names: `sanitized` replaces nothing.
            name: Token::sanitized(&settings.name),
            hash: settings.hash,
            tenant: Token::sanitized(settings.tenant()),
            operator: settings.operator,
            lanes: settings.lanes.clone(),
            models: settings.models.clone(),
            rate: settings
                .requests_per_minute
                .and_then(|requests| Rate::new(requests, settings.burst)),
            quota: settings.max_queued_jobs.map(Quota::new),
        }
    }
}
