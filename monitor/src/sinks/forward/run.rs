//! The way of a message: pulled, made into an item, delivered, and only then acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use precis_runtime::topology::TopologyError;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::JobResult;
use tokio_util::sync::CancellationToken;

use super::breaker::Breaker;
use super::item::Item;
use super::metrics;
use super::parcel::{Fate, Parcel, Target};
use super::sampling::is_chosen;
use crate::backoff::Backoff;
use crate::score::Scorer;
use crate::sinks::intake::{Delivered, Intake, acknowledge};

/// How long requests that are under way are waited for after the word to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a pull waits for more messages.
const PULL: Duration = Duration::from_millis(500);

/// Moves results from a stream to a receiver.
#[derive(Debug)]
pub(crate) struct Forwarder<T> {
    /// Where they go.
    pub(crate) target: T,
    /// Where they come from.
    pub(crate) intake: Intake,
    /// Share of the jobs that is forwarded, 0 to 1, unless a job says otherwise.
    pub(crate) sampling_rate: f64,
    /// Most messages in hand.
    pub(crate) most: usize,
    /// How long a receiver that fails again and again is left alone.
    pub(crate) rest: Duration,
    /// The word to stop.
    pub(crate) stop: CancellationToken,
}

impl<T: Target> Forwarder<T> {
    /// Forwards until it is told to stop.
    ///
    /// # Errors
    /// When the consumer can't be set up at the start. Later troubles are waited out.
    pub(crate) async fn run(self) -> Result<(), TopologyError> {
        let sink = self.target.name();
        metrics::begin(sink);
        let mut consumer = self.intake.consumer().await?;
        let lag = tokio::spawn(Intake::report_lag(
            consumer.clone(),
            self.stop.clone(),
            move |count| {
                crate::metrics::lag_of(sink, count);
            },
        ));
        let mut breaker = Breaker::new(self.rest);
        let mut backoff = Backoff::default();
        tracing::info!(sink, "results are forwarded");
        while !self.stop.is_cancelled() {
            let (messages, trouble) = self.intake.pull(&consumer, self.most, PULL, &self.stop).await;
            if !messages.is_empty() {
                backoff.reset();
                self.forward(messages, &mut breaker).await;
            } else if let Some(trouble) = trouble {
                tracing::warn!(sink, error = trouble, "results can't be pulled; trying again");
                if backoff.wait_or_stop(&self.stop).await {
                    break;
                }
                self.recover(&mut consumer).await;
            }
        }
        lag.abort();
        Ok(())
    }

    /// The consumer may be gone, with its stream or because somebody has deleted it.
    async fn recover(&self, consumer: &mut PullConsumer) {
        match self.intake.consumer().await {
            Ok(again) => *consumer = again,
            Err(error) => {
                tracing::warn!(sink = self.target.name(), %error, "the consumer of results can't be set up");
            }
        }
    }

    /// Delivers what was pulled and settles its messages. Nothing more is pulled meanwhile, so that memory is bounded
    /// however long the receiver is away.
    async fn forward(&self, messages: Vec<Delivered>, breaker: &mut Breaker) {
        let sink = self.target.name();
        let rate = self.sampling_rate;
        let messages = Arc::new(messages);
        let shared = Arc::clone(&messages);
        // Scores are arithmetic over whole texts: not on the threads that serve the network.
        let Ok((mut items, mut places)) = tokio::task::spawn_blocking(move || chosen(&shared, rate)).await
        else {
            tracing::error!(sink, "results could not be read; they will be delivered again");
            return;
        };
        let wanted: Vec<bool> = items.iter().map(|item| self.target.wants(item)).collect();
        keep(&mut items, &wanted);
        keep(&mut places, &wanted);
        let settled: Vec<AtomicBool> = messages.iter().map(|_| AtomicBool::new(true)).collect();
        places
            .iter()
            .for_each(|place| settled[*place].store(false, Ordering::Relaxed));
        let skipped = messages
            .iter()
            .zip(&settled)
            .filter(|(_, done)| done.load(Ordering::Relaxed));
        let skipped: Vec<&Delivered> = skipped.map(|(one, _)| one).collect();
        metrics::skipped(sink, skipped.len());
        acknowledge(skipped).await;
        tokio::select! {
            () = self.deliver(&items, &places, &messages, &settled, breaker) => {}
            never = hold(&messages, &settled, self.intake.spec.ack_wait / 4) => match never {},
            () = self.drained() => {}
        }
        let left = messages
            .iter()
            .zip(&settled)
            .filter(|(_, done)| !done.load(Ordering::Relaxed));
        let mut count = 0;
        for (one, _) in left {
            one.hand_back().await;
            count += 1;
        }
        if count > 0 {
            let _best_effort = self.intake.queue.client.flush().await;
            tracing::warn!(
                sink,
                results = count,
                "stopped before they were delivered; they will come again"
            );
        }
    }

    async fn deliver(
        &self,
        items: &[Item],
        places: &[usize],
        messages: &[Delivered],
        settled: &[AtomicBool],
        breaker: &mut Breaker,
    ) {
        let sink = self.target.name();
        let mut parcel = Parcel::new(items, &self.target);
        while !parcel.is_done() {
            let (fates, pause) = parcel.round(&self.target, breaker).await;
            let mut done = Vec::with_capacity(fates.len());
            for (index, fate) in fates {
                let place = places[index];
                metrics::record(sink, fate == Fate::Taken);
                match fate {
                    Fate::Taken => done.push(&messages[place]),
                    Fate::Refused(reason) => {
                        // Else it was handed back, and comes again.
                        if self.intake.bury(sink, &messages[place], reason).await {
                            done.push(&messages[place]);
                        }
                    }
                }
                settled[place].store(true, Ordering::Relaxed);
            }
            acknowledge(done).await;
            if let Some(pause) = pause {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.stop.cancelled() => return,
                }
            }
        }
    }

    /// Comes when a stopping process can't wait for the receiver any longer.
    async fn drained(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    }
}

/// The items of the results that are forwarded, and the index of each one's message.
///
/// What can't be read is left to the sink of ClickHouse, which reads every result and buries what is none.
fn chosen(messages: &[Delivered], rate: f64) -> (Vec<Item>, Vec<usize>) {
    let scorer = Scorer::default();
    let (mut items, mut places) = (vec![], vec![]);
    for (place, one) in messages.iter().enumerate() {
        let payload = &one.message.payload;
        let Ok(result) = serde_json::from_slice::<JobResult>(payload) else {
            continue;
        };
        if !is_chosen(&result, rate) {
            continue;
        }
        let trace = TraceContext::from_message(one.message.headers.as_ref());
        let trace_id = trace.map(|trace| trace.trace_id().to_owned());
        items.push(Item::prediction(result, trace_id, payload.len(), &scorer));
        places.push(place);
    }
    (items, places)
}

/// Leaves what is wanted.
fn keep<T>(all: &mut Vec<T>, wanted: &[bool]) {
    let mut wanted = wanted.iter();
    all.retain(|_| wanted.next().copied().unwrap_or_default());
}

/// Tells JetStream every so often that the messages are being worked on, so that it doesn't deliver them again.
async fn hold(messages: &[Delivered], settled: &[AtomicBool], every: Duration) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(every).await;
        for (one, _) in messages
            .iter()
            .zip(settled)
            .filter(|(_, done)| !done.load(Ordering::Relaxed))
        {
            one.hold().await;
        }
    }
}
