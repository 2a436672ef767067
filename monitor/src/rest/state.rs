//! State that the handlers share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clickhouse::error::Error;
use precis_runtime::boot::NatsConnection;
use precis_runtime::config::ClickHouseConfig;
use precis_schemas::job::JobLimits;

use super::problem::ProblemResponse;
use crate::database::Database;
use crate::samples::Samples;

/// State of the handlers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct RestState {
    /// The NATS connection, once it is established.
    pub(crate) queue: Arc<OnceLock<NatsConnection>>,
    pub(crate) database: Database,
    pub(crate) samples: Samples,
    pub(crate) clickhouse: ClickHouseConfig,
    pub(crate) limits: JobLimits,
}

/// How long a handler waits beyond ClickHouse's own time limit.
const GRACE: Duration = Duration::from_secs(2);

impl RestState {
    /// Awaits an answer of the database. Fails after `clickhouse.query_timeout_seconds`.
    pub(super) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, ProblemResponse>>,
    ) -> Result<T, ProblemResponse> {
        let limit = Duration::from_secs(self.clickhouse.query_timeout_seconds) + GRACE;
        tokio::time::timeout(limit, answer)
            .await
            .unwrap_or_else(|_| Err(Error::TimedOut.into()))
    }
}
