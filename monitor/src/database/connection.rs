//! The connection to ClickHouse.

use std::time::Duration;

use clickhouse::Client;
use precis_runtime::config::ClickHouseConfig;

/// Longest that a statement, or one step of an insert, may take before it counts as failed.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A ClickHouse server and the database on it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// Without a database: for creating it.
    pub(crate) server: Client,
    /// With the database set.
    pub(crate) client: Client,
    /// Name of the database.
    pub(crate) name: String,
    /// Address without credentials, for people.
    pub(crate) address: String,
}

impl Database {
    /// What `settings` describe. Nothing is sent yet.
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_has_no_password() {
        let settings = ClickHouseConfig {
            url: precis_runtime::config::ServerUrl::new("http://me:hunter2@host:8123"),
            password: Some(precis_runtime::config::Secret::new("hunter2")),
            ..ClickHouseConfig::default()
        };
        assert!(!format!("{:?}", Database::new(&settings)).contains("hunter2"));
    }
}
