//! What the handlers share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clickhouse::error::Error;
use precis_runtime::boot::NatsConnection;
use precis_runtime::config::ClickHouseConfig;
use precis_schemas::job::JobLimits;

use super::problem::Refused;
use crate::database::Database;

/// What the handlers can reach. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// The queue, as soon as there is a connection.
    pub(crate) queue: Arc<OnceLock<NatsConnection>>,
    pub(crate) database: Database,
    pub(crate) clickhouse: ClickHouseConfig,
    pub(crate) limits: JobLimits,
}

/// How much longer than the server an answer is waited for.
const GRACE: Duration = Duration::from_secs(2);

impl Service {
    /// What the database answers, unless it takes longer than `clickhouse.query_timeout_seconds`.
    pub(super) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, Refused>>,
    ) -> Result<T, Refused> {
        let patience = Duration::from_secs(self.clickhouse.query_timeout_seconds) + GRACE;
        tokio::time::timeout(patience, answer)
            .await
            .unwrap_or_else(|_| Err(Error::TimedOut.into()))
    }
}
