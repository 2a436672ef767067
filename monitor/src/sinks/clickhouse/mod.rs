//! The sinks for ClickHouse: results, and references that came late.

mod block;
mod closed_hours;
mod fault;
pub(crate) mod references;
pub(crate) mod results;
mod spans;
pub(crate) mod table;

use precis_runtime::boot::NatsConnection;
use precis_runtime::config;
use precis_runtime::topology::TopologyError;
use precis_schemas::topology::{clickhouse_references_consumer, clickhouse_sink_consumer};
use tokio_util::sync::CancellationToken;

use crate::consumer::{intake_of, lag};

/// Sets up the consumers of the sinks of ClickHouse and begins to tell how far behind they are: they are so from the
/// start, also while nothing can be stored yet.
///
/// # Errors
/// When JetStream refuses a consumer.
pub(crate) async fn watch_lag(
    queue: &NatsConnection,
    nats: &config::NatsConfig,
    settings: &config::MonitorConfig,
    stop: &CancellationToken,
) -> Result<(), TopologyError> {
    for (sink, spec) in [
        (results::SINK, clickhouse_sink_consumer()),
        (references::SINK, clickhouse_references_consumer()),
    ] {
        let intake = intake_of(queue.clone(), nats.clone(), settings, spec);
        lag::begin(&intake, sink, stop).await?;
    }
    Ok(())
}
