//! The sinks for ClickHouse: results, and late references.
//!
//! | module | contents |
//! | --- | --- |
//! | `results` | results become rows |
//! | `references` | late references become later versions of rows |
//! | `context` | what both sinks need |
//! | `block` | rows that are inserted together, and the rows that ClickHouse rejects |
//! | `table` | lookups, inserts and marks in ClickHouse |
//! | `settle` | acknowledgements and dead letters of a block |
//! | `closed_hours` | hours whose rollups can't be recomputed |
//! | `spans` | spans of a block |
//! | `fault` | a fault that tests inject |

mod block;
mod closed_hours;
mod context;
mod fault;
pub(crate) mod references;
pub(crate) mod results;
mod settle;
mod spans;
mod table;

pub(crate) use context::SinkContext;
pub(crate) use table::PredictionTable;

use precis_runtime::topology::TopologyError;
use precis_schemas::topology::{clickhouse_references_consumer, clickhouse_sink_consumer};

use crate::consumer::lag;

/// Creates the consumers of both sinks and exports their lag, even while nothing can be stored yet.
///
/// # Errors
/// When JetStream rejects a consumer.
pub(crate) async fn watch_lag(context: &SinkContext) -> Result<(), TopologyError> {
    for (sink, spec) in [
        (results::SINK, clickhouse_sink_consumer()),
        (references::SINK, clickhouse_references_consumer()),
    ] {
        lag::watch(&context.consumer(spec), sink, &context.stop).await?;
    }
    Ok(())
}
