//! The connection to ClickHouse.

use std::sync::Arc;
use std::time::Duration;

use clickhouse::Client;
use precis_runtime::backoff::Backoff;
use precis_runtime::config::ClickHouseConfig;
use tokio::sync::Notify;

/// Longest time for a statement, or for one step of an insert.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// Delays between attempts to reach ClickHouse.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(200);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);

/// Returns the backoff between attempts to reach ClickHouse.
pub(crate) fn backoff() -> Backoff {
    Backoff::new(MIN_RETRY_DELAY, MAX_RETRY_DELAY)
}

/// A ClickHouse server and a database on it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// Client without a database, which can create it.
    pub(crate) server: Client,
    /// Client of the database.
    pub(crate) client: Client,
    pub(crate) name: String,
    /// Address without credentials.
    pub(crate) address: String,
    changes: Arc<Notify>,
}

impl Database {
    /// Creates the clients. Nothing is sent yet.
    pub(crate) fn new(settings: &ClickHouseConfig) -> Self {
        let mut server = Client::default()
            .with_url(settings.url.expose())
            .with_user(&settings.user)
            .with_product_info("precis-monitor", env!("CARGO_PKG_VERSION"));
        if let Some(password) = &settings.password {
            server = server.with_password(password.expose());
        }
        Self {
            client: server.clone().with_database(&settings.database),
            server,
            name: settings.database.clone(),
            address: settings.url.shown(),
            changes: Arc::default(),
        }
    }

    /// Reports that rows changed, so that their rollups are refreshed.
    pub(crate) fn report_change(&self) {
        self.changes.notify_one();
    }

    /// Waits until rows change. A change that nothing waited for is not lost.
    pub(super) async fn changed(&self) {
        self.changes.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_password() {
        let settings = ClickHouseConfig {
            url: precis_runtime::config::ServerUrl::new("http://me:hunter2@host:8123"),
            password: Some(precis_runtime::config::Secret::new("hunter2")),
            ..ClickHouseConfig::default()
        };
        assert!(!format!("{:?}", Database::new(&settings)).contains("hunter2"));
    }
}
