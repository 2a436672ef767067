//! Reports the queue depth as a metric, for alerts and autoscalers.

use std::collections::HashSet;

use parking_lot::Mutex;
use precis_schemas::{Lane, Token};

use crate::metrics;
use crate::queue::QueueDepth;

/// The lanes that have been reported.
#[derive(Debug, Default)]
pub(crate) struct QueueGauge(Mutex<HashSet<(Token, Lane)>>);

impl QueueGauge {
    /// Sets the metric of every lane. Without a depth, the lanes reported so far become unknown.
    pub(crate) fn set(&self, depth: Option<&QueueDepth>) {
        let mut reported = self.0.lock();
        let lanes = depth.map_or(&[][..], |depth| &depth.lanes);
        for (model, lane) in reported.iter() {
            if !lanes.iter().any(|new| new.model == *model && new.lane == *lane) {
                metrics::queued(model, *lane, f64::NAN);
            }
        }
        for lane in lanes {
            metrics::queued(&lane.model, lane.lane, lane.jobs as f64);
            reported.insert((lane.model.clone(), lane.lane));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::queue::LaneDepth;

    #[test]
    fn lanes_that_cannot_be_read_become_unknown() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let lane = |lane, jobs| LaneDepth {
            model: Token::new("a model", "default").unwrap(),
            lane,
            jobs,
            tenants: HashMap::new(),
        };
        let depth = QueueDepth {
            last_sequence: 7,
            lanes: vec![lane(Lane::Normal, 7), lane(Lane::Bulk, 0)],
        };
        let gauge = QueueGauge::default();
        let reported = |depth| {
            ::metrics::with_local_recorder(&recorder, || gauge.set(depth));
            let text = recorder.handle().render();
            let mut lines: Vec<String> = text
                .lines()
                .filter_map(|line| line.strip_prefix("precis_api_queued_jobs"))
                .map(str::to_owned)
                .collect();
            lines.sort();
            lines
        };
        let known = [
            r#"{model="default",lane="bulk"} 0"#,
            r#"{model="default",lane="normal"} 7"#,
        ];
        assert_eq!(reported(Some(&depth)), known);
        let unknown = [
            r#"{model="default",lane="bulk"} NaN"#,
            r#"{model="default",lane="normal"} NaN"#,
        ];
        assert_eq!(reported(None), unknown);
        assert_eq!(reported(Some(&depth)), known);
    }
}
