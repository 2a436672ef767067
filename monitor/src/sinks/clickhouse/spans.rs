//! Spans of a block: one for the insert, and one per result in the trace of its job.
//!
//! They are linked with each other, because an insert belongs to many traces.

use async_nats::HeaderMap;
use jiff::Timestamp;
use precis_runtime::spans::{self, Span, SpanKind, SpanStart};
use precis_runtime::trace_context::TraceContext;
use precis_schemas::topology::RESULTS;

/// Spans of a block in flight. Empty while no traces are exported.
#[derive(Debug, Default)]
pub(crate) struct BlockSpans {
    insert: Option<Span>,
    results: Vec<Span>,
}

impl BlockSpans {
    /// Starts the spans of results with these headers, received at `at`, before their insert into `table`.
    pub(crate) fn start<'a>(
        headers: impl Iterator<Item = Option<&'a HeaderMap>>,
        at: Timestamp,
        table: &str,
    ) -> Self {
        if !spans::enabled() {
            return Self::default();
        }
        let mut insert = Span::begin(SpanStart {
            name: format!("INSERT {table}").into(),
            kind: SpanKind::Client,
            parent: None,
            at: None,
        });
        insert.set("db.system.name", "clickhouse");
        insert.set("db.operation.name", "INSERT");
        insert.set("db.collection.name", table.to_owned());
        let results: Vec<Span> = headers
            .filter_map(TraceContext::from_message)
            .map(|trace| {
                let mut span = Span::begin(SpanStart::at("process results", SpanKind::Consumer, &trace, at));
                span.set("messaging.system", "nats");
                span.set("messaging.operation.type", "process");
                span.set("messaging.destination.name", RESULTS);
                span.link(insert.context());
                insert.link(&trace);
                span
            })
            .collect();
        insert.set("messaging.batch.message_count", results.len() as i64);
        Self {
            insert: Some(insert),
            results,
        }
    }

    /// Ends the spans. They fail unless the rows are stored.
    pub(crate) fn end(mut self, stored: bool) {
        if stored {
            return;
        }
        for span in self.insert.iter_mut().chain(&mut self.results) {
            span.fail("the block was not stored; it will be redelivered");
        }
    }
}
