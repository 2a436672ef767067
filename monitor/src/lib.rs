//! The monitor: stores every result as a row in ClickHouse, forwards it, and ends jobs that no worker will finish.
//!
//! | module | contents |
//! | --- | --- |
//! | `consumer` | durable consumers: pull loop, deliveries, lag |
//! | [`row`] | rows, scores and the text policy |
//! | `sinks` | consumers of results and late references: ClickHouse, Arize, Phoenix |
//! | `database` | ClickHouse: connection, migrations, retention |
//! | `drift` | drift of each model from its baseline |
//! | `reaper` | termination of jobs that no worker will finish |
//! | `retention` | for how long results and texts are really kept |
//! | `shared_names` | a warning about several models under one name |
//! | `rest` | the monitoring service over HTTP |
//! | `requests`, `status` | requests of gateways, and what they ask about |
//! | `samples` | sample data |
//! | `dead_letter`, `metrics` | dead letters; metrics |
//! | `wiring` | startup and shutdown |

mod backlog;
mod consumer;
mod database;
mod dead_letter;
mod drift;
mod metrics;
mod reaper;
mod requests;
mod rest;
mod retention;
pub mod row;
mod samples;
mod shared_names;
mod sinks;
mod status;
mod wiring;

pub use consumer::StreamPosition;
pub use row::{Scorer, TextFilter};
pub use wiring::{describe_metrics, run};
