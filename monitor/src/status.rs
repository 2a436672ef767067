//! What each sink last measured and attempted, for `GET /v1/status` of the gateway. Belongs to the process, like metrics.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use precis_runtime::clock;
use precis_schemas::monitor_request::{MonitorStatus, SinkStatus};

/// Most characters of an error.
const MAX_ERROR_CHARS: usize = 300;

static SINKS: LazyLock<Mutex<BTreeMap<String, SinkStatus>>> = LazyLock::new(Mutex::default);

fn update(sink: &str, change: impl FnOnce(&mut SinkStatus)) {
    let mut sinks = SINKS.lock().unwrap_or_else(PoisonError::into_inner);
    change(sinks.entry(sink.to_owned()).or_insert_with(|| SinkStatus {
        sink: sink.to_owned(),
        ..SinkStatus::default()
    }));
}

/// Records how many messages a sink has not acknowledged, and up to which sequence it has handled all.
pub(crate) fn measured(sink: &str, waiting: u64, handled_to: u64) {
    update(sink, |status| {
        status.waiting = waiting;
        status.handled_to = Some(handled_to);
    });
}

/// Records an attempt of a sink, which failed if there is an `error`.
pub(crate) fn attempted(sink: &str, error: Option<&str>) {
    update(sink, |status| {
        status.error = error.map(|error| error.chars().take(MAX_ERROR_CHARS).collect());
        status.attempted_at = Some(clock::now());
    });
}

/// Returns the status of every sink.
pub(crate) fn current() -> MonitorStatus {
    let sinks = SINKS.lock().unwrap_or_else(PoisonError::into_inner);
    MonitorStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sinks: sinks.values().cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_clears_the_error_and_keeps_the_lag() {
        let sink = "status-test";
        let found = || current().sinks.into_iter().find(|status| status.sink == sink);
        assert_eq!(found(), None);
        measured(sink, 3, 17);
        attempted(sink, Some(&"x".repeat(1_000)));
        let failed = found().unwrap();
        assert_eq!((failed.waiting, failed.handled_to), (3, Some(17)));
        assert_eq!(failed.error.unwrap().chars().count(), MAX_ERROR_CHARS);
        attempted(sink, None);
        let succeeded = found().unwrap();
        assert_eq!((succeeded.waiting, succeeded.error), (3, None));
        assert!(succeeded.attempted_at >= failed.attempted_at);
    }
}
