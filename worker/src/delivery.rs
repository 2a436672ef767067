//! Jobs as they are delivered to this worker.

use jiff::Timestamp;
use precis_runtime::trace_context::TraceContext;

use crate::lease::Lease;

/// A job that was delivered to this worker.
pub struct Fetched {
    /// Subject, headers and body.
    pub message: async_nats::Message,
    /// The delivery.
    pub delivery: Delivery,
    /// The worker's hold on the job.
    pub lease: Lease,
}

/// One delivery of a job.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Sequence of the job in `JOBS`.
    pub sequence: u64,
    /// Number of this delivery, starting at 1.
    pub attempt: u64,
    /// When the stream stored the job.
    pub submitted_at: Timestamp,
    /// When this worker received the job.
    pub received_at: Timestamp,
    /// The trace of the request that submitted the job.
    pub trace: Option<TraceContext>,
    /// The span of the fetch that delivered the job, while traces are exported.
    pub fetch_span: Option<TraceContext>,
}
