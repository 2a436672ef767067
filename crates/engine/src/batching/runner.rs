//! A compute thread: takes requests, decodes them step by step, and sends their events.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::Drafting;
use super::active::{Active, Context, Plan};
use super::queue::{Cost, InFlight, Next, RequestQueue, Ticket};
use super::slots::Slots;
use super::texts::{Text, Texts};
use crate::error::RowError;
use crate::generate::RowLogits;
use crate::kernels::Isa;
use crate::model::{Backend, Logits, Model, Prefilled, StepRows, Workspace};
use crate::tokenize::TextTokenizer;

/// Batching limits of an engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Number of compute threads.
    pub(crate) threads: usize,
    /// Maximum decoder rows per thread.
    pub(crate) rows: usize,
    /// Maximum cache bytes per thread.
    pub(crate) bytes: usize,
    /// Input tokens per prefill, or of all prompts per step of a decoder-only model.
    pub(crate) prefill_tokens: usize,
    /// Maximum bytes of cached encoder states.
    pub(crate) text_bytes: usize,
    /// Cache bytes per generated token, over all layers.
    pub(crate) bytes_per_token: usize,
    /// Bytes per text token that the decoder reads, over all layers.
    pub(crate) bytes_per_text_token: usize,
    /// Texts are padded to a multiple of this many tokens.
    pub(crate) text_tokens_together: usize,
    /// Whether requests use drafts.
    pub(crate) drafting: Drafting,
    /// Whether equal requests in flight are decoded once.
    pub(crate) share_equal: bool,
}

impl Settings {
    /// Returns the bytes of a text's cross-attention keys and values.
    pub(super) fn bytes_of_text(&self, tokens: usize) -> usize {
        tokens.next_multiple_of(self.text_tokens_together) * self.bytes_per_text_token
    }
}

/// State that an engine's threads share.
pub(super) struct Shared<B: Backend> {
    pub(super) model: Model<B>,
    pub(super) tokenizer: Arc<TextTokenizer>,
    pub(super) start: u32,
    pub(super) eos: Vec<u32>,
    pub(super) settings: Settings,
    pub(super) queue: RequestQueue<B>,
    pub(super) texts: Texts<B>,
    /// Requests that an equal request may join.
    pub(super) in_flight: Arc<InFlight>,
    /// See [`Batcher::panic_next`](super::Batcher::panic_next).
    #[cfg(test)]
    pub(super) panic_next: std::sync::atomic::AtomicBool,
}

impl<B: Backend> Shared<B> {
    fn context(&self) -> Context<'_> {
        Context {
            tokenizer: &self.tokenizer,
            eos: &self.eos,
            vocabulary: self.model.config().vocabulary(),
            drafting: self.settings.drafting,
        }
    }
}

/// One compute thread.
pub(super) struct Runner<B: Backend> {
    thread: usize,
    shared: Arc<Shared<B>>,
    work: Workspace<B>,
    cache: B::Cache,
    slots: Slots,
    active: Vec<Active<B>>,
    /// Cross-attention keys and values of the active requests, in their order. `None` after a request joined or left.
    cross: Option<B::CrossBatch>,
    plan: Plan,
    logits: Vec<RowLogits>,
}

impl<B: Backend> Runner<B> {
    /// Creates thread number `thread`.
    pub(super) fn new(thread: usize, shared: Arc<Shared<B>>, backend: B) -> candle_core::Result<Self> {
        Ok(Self {
            cache: shared.model.cache(&backend)?,
            work: Workspace::new(backend),
            thread,
            shared,
            slots: Slots::default(),
            active: Vec::new(),
            cross: None,
            plan: Plan::default(),
            logits: Vec::new(),
        })
    }

    /// Works until the engine is dropped and all work is done.
    pub(super) fn run(mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(true) => {}
                Ok(false) => return,
                Err(panic) => self.recover(RowError::panicked(panic.as_ref())),
            }
        }
    }

    /// Takes new work and does a part of it. Returns whether there may be more.
    fn turn(&mut self) -> bool {
        self.drop_abandoned();
        match self.shared.clone().queue.next(self.thread, self.used()) {
            Next::Stop => return false,
            Next::Task(task) => {
                let shared = self.shared.clone();
                // A panic drops the sender, which tells the caller.
                let _ = catch_unwind(AssertUnwindSafe(|| task(&shared.model, &mut self.work)));
            }
            Next::Decode(tickets) => {
                #[cfg(test)]
                if self
                    .shared
                    .panic_next
                    .swap(false, std::sync::atomic::Ordering::Relaxed)
                {
                    panic!("a test wants it so");
                }
                let before = self.active.len();
                self.admit(tickets);
                let came = self.active.len() > before;
                // With much room left, the encoder comes first: steps with few rows are inefficient.
                let reads_on = came
                    && self.shared.model.config().has_encoder()
                    && 2 * self.used().rows < self.shared.settings.rows;
                if !reads_on && !self.active.is_empty() {
                    self.step();
                }
            }
        }
        true
    }

    /// Recovers from an unexpected failure: all requests of this thread fail, and the thread continues.
    fn recover(&mut self, error: RowError) {
        tracing::error!(thread = self.thread, %error, "a compute thread panicked; its requests have failed");
        let failed = Err(error);
        for active in self.active.drain(..) {
            active.ticket.finish(&failed);
        }
        self.renew();
    }

    fn used(&self) -> Cost {
        let mut used = Cost::default();
        self.active.iter().for_each(|active| used += active.ticket.cost);
        used
    }

    fn drop_abandoned(&mut self) {
        let slots = &mut self.slots;
        let before = self.active.len();
        self.active.retain_mut(|active| {
            let gone = active.ticket.is_abandoned();
            if gone {
                active.release(slots);
            }
            !gone
        });
        if self.active.len() != before {
            self.cross = None;
        }
    }

    /// Runs the encoder, if there is one, for new requests and makes them active.
    fn admit(&mut self, tickets: Vec<Ticket>) {
        let shared = self.shared.clone();
        let (mut known, mut unread): (Vec<(Ticket, Text<B>)>, Vec<Ticket>) = (Vec::new(), Vec::new());
        for ticket in tickets {
            if ticket.is_abandoned() {
                continue;
            }
            ticket.subscribers.start();
            if !shared.model.config().has_encoder() {
                known.push((ticket, Arc::new(Prefilled::nothing())));
                continue;
            }
            match shared.texts.get(&ticket.ids) {
                Some(text) => known.push((ticket, text)),
                None => unread.push(ticket),
            }
        }
        let reused = shared.model.config().has_encoder();
        for (ticket, text) in known {
            self.begin(ticket, text, Duration::ZERO, reused);
        }
        if unread.is_empty() {
            return;
        }
        let begin = crate::clock::now();
        let inputs: Vec<&[u32]> = unread.iter().map(|ticket| &*ticket.ids).collect();
        let texts = compute(|| shared.model.prefill(&mut self.work, &inputs));
        let encode = begin.elapsed();
        match texts {
            Ok(texts) => {
                for (ticket, text) in unread.into_iter().zip(texts) {
                    let text = Arc::new(text);
                    let bytes = shared.settings.bytes_of_text(ticket.ids.len());
                    shared.texts.put(ticket.ids.clone(), text.clone(), bytes);
                    self.begin(ticket, text, encode, false);
                }
            }
            Err(error) => {
                self.renew();
                let failed = Err(error);
                unread.iter().for_each(|ticket| ticket.finish(&failed));
            }
        }
    }

    fn begin(&mut self, ticket: Ticket, text: Text<B>, encode: Duration, reused: bool) {
        let shared = &self.shared;
        let prompt = shared.model.prompt(&ticket.ids, &shared.start).to_vec();
        let active = Active::new(ticket, text, prompt, encode, reused, &shared.context());
        self.active.push(active);
        self.cross = None;
    }

    /// Runs one decoding step for all active requests.
    fn step(&mut self) {
        let shared = self.shared.clone();
        if let Err(error) = self.compute_step() {
            let failed = Err(error);
            for active in self.active.drain(..) {
                active.ticket.finish(&failed);
            }
            self.renew();
            return;
        }
        let context = shared.context();
        let (slots, mut first) = (&mut self.slots, 0);
        let logits = &self.logits;
        let before = self.active.len();
        self.active.retain_mut(|active| {
            if active.rows() == 0 {
                // Its prompt is not read yet.
                return true;
            }
            let own = &logits[first..first + active.rows()];
            first += active.rows();
            let advanced = catch_unwind(AssertUnwindSafe(|| active.advance(own, slots, &context)));
            let result = match advanced {
                Ok(Ok(true)) => {
                    active.send_progress();
                    return true;
                }
                Ok(Ok(false)) => active.result(&context),
                Ok(Err(error)) => Err(error),
                Err(panic) => Err(RowError::panicked(panic.as_ref())),
            };
            active.release(slots);
            active.ticket.finish(&result);
            false
        });
        if self.active.len() != before {
            self.cross = None;
        }
    }

    fn compute_step(&mut self) -> Result<(), RowError> {
        let shared = self.shared.clone();
        let context = shared.context();
        let sure: usize = self.active.iter().map(Active::sure_rows).sum();
        self.plan.start(shared.settings.prefill_tokens);
        let most = sure + self.active.len() * 16;
        if self.logits.len() < most {
            let isa = Isa::detect();
            self.logits.resize_with(most, || RowLogits::new(isa));
        }
        for active in &mut self.active {
            // Drafts of earlier requests count too.
            let others = sure.max(self.plan.tokens.len()) - active.sure_rows().min(sure);
            active.plan(
                &mut self.plan,
                &mut self.slots,
                &mut self.logits,
                others,
                &context,
            );
        }
        self.plan.finish();
        compute(|| {
            let (backend, plan) = (&mut self.work.backend, &self.plan);
            backend.reserve(&mut self.cache, self.slots.count())?;
            let cross = match &mut self.cross {
                Some(cross) => cross,
                none => {
                    let texts = self.active.iter().map(|active| active.text.cross.clone());
                    none.insert(backend.cross_batch(texts.collect())?)
                }
            };
            let step = StepRows {
                tokens: &plan.tokens,
                slots: &plan.slots,
                lengths: &plan.lengths,
                rows: &plan.rows,
                prompts: &plan.prompts,
            };
            let count = plan.lengths.len();
            let logits = &mut self.logits[..count];
            // The row that needs most decides; one row that needs all logits makes it all.
            let mut counts = logits.iter().map(RowLogits::count);
            let most = counts.try_fold(0, |most, count| Some(count?.max(most)));
            let mut take = |part: Logits<'_>| match part {
                Logits::Columns(first, block) => {
                    let width = block.len() / count;
                    for (row, block) in logits.iter_mut().zip(block.chunks_exact(width)) {
                        row.feed(first, block);
                    }
                }
                Logits::Highest(found) => {
                    for (row, found) in logits.iter_mut().zip(found) {
                        row.take(found);
                    }
                }
            };
            shared
                .model
                .step(&mut self.work, step, cross, &mut self.cache, most, &mut take)
        })
    }

    /// Resets the state after a failure that may have left it inconsistent.
    fn renew(&mut self) {
        self.work = Workspace::new(self.work.backend.fork());
        self.cross = None;
        if self.active.is_empty() {
            self.slots = Slots::default();
            match self.shared.model.cache(&self.work.backend) {
                Ok(cache) => self.cache = cache,
                Err(error) => tracing::error!(%error, "cannot reallocate the KV cache"),
            }
        }
    }
}

/// Runs a computation and turns a panic into an error.
fn compute<T>(work: impl FnOnce() -> candle_core::Result<T>) -> Result<T, RowError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| RowError::Compute(error.to_string())),
        Err(panic) => Err(RowError::panicked(panic.as_ref())),
    }
}
