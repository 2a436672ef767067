//! The queue depth that the fake queue reports.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use precis_schemas::error_code::Refusal;
use precis_schemas::worker_consumers::TenantLane;
use precis_schemas::{Lane, Token};

use super::FakeQueue;
use crate::queue::{LaneDepth, QueueDepth, TenantDepth};

impl FakeQueue {
    pub(super) fn read_depth(&self) -> Result<QueueDepth, Refusal> {
        self.refusal()?;
        let jobs = self.jobs.lock().unwrap().len() as u64;
        let lane = |lane| LaneDepth {
            model: Token::new("a model", "default").unwrap(),
            lane,
            jobs,
            tenants: HashMap::new(),
        };
        // The worker that answers at once does not read the lane of batch rows.
        let mut lanes = vec![lane(Lane::Normal)];
        if !self.has_worker.load(Ordering::Relaxed) {
            lanes.push(lane(Lane::Bulk));
        }
        Ok(QueueDepth {
            last_sequence: jobs,
            lanes,
        })
    }

    pub(super) fn read_tenant_depth(&self, jobs: &TenantLane) -> Result<Option<TenantDepth>, Refusal> {
        let depth = self.read_depth()?;
        let lane = depth.lanes.iter().find(|lane| lane.lane == jobs.lane);
        Ok(lane.map(|lane| TenantDepth {
            last_sequence: depth.last_sequence,
            delivered: 0,
            pending: lane.jobs,
        }))
    }
}
