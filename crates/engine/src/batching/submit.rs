//! The entry point: a request joins an equal one in flight or is queued.

use std::collections::hash_map::Entry;
use std::sync::{Arc, mpsc};

use super::Subscriber;
use super::queue::{Cost, InFlight, Joinable, Limits, Load, RequestQueue, Subscribers, Task, Ticket};
use super::runner::{Runner, Settings, Shared};
use super::texts::Texts;
use crate::error::{LoadError, Result, RowError};
use crate::generate::{GenerateRequest, RowLogits, Wanted};
use crate::kernels::Isa;
use crate::model::{Backend, Logits, Model, Workspace};
use crate::tokenize::TextTokenizer;

/// An engine's batching, independent of the backend.
pub(crate) trait Batcher: Send + Sync {
    /// Queues a validated request.
    fn submit(&self, request: &GenerateRequest, subscriber: Subscriber);
    /// Returns the encoder's hidden states of a text, `[tokens, d_model]`.
    fn encode(&self, ids: &[u32]) -> Result<Vec<f32>, RowError>;
    /// Returns the logits of the first generated token, `[vocabulary]`.
    fn first_logits(&self, ids: &[u32]) -> Result<Vec<f32>, RowError>;
    /// Returns the current load.
    fn load(&self) -> Load;
    /// Makes a compute thread panic at an unexpected place in its next turn.
    #[cfg(test)]
    fn panic_next(&self) {}
}

/// A model with its compute threads.
pub(crate) struct Threads<B: Backend> {
    shared: Arc<Shared<B>>,
}

impl<B: Backend> Threads<B> {
    /// Starts the threads.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub(crate) fn start(
        model: Model<B>,
        backend: &B,
        tokenizer: Arc<TextTokenizer>,
        (start, eos): (u32, Vec<u32>),
        settings: Settings,
    ) -> Result<Self> {
        let cost = Cost {
            rows: settings.rows,
            bytes: settings.bytes,
        };
        let limits = Limits {
            cost,
            prefill_tokens: settings.prefill_tokens,
        };
        let shared = Arc::new(Shared {
            model,
            tokenizer,
            start,
            eos,
            settings,
            queue: RequestQueue::new(settings.threads, limits),
            texts: Texts::new(settings.text_bytes),
            in_flight: Arc::new(InFlight::default()),
            #[cfg(test)]
            panic_next: false.into(),
        });
        let threads = Self { shared };
        for thread in 0..settings.threads {
            let runner = Runner::new(thread, threads.shared.clone(), backend.fork())?;
            std::thread::Builder::new()
                .name(format!("engine-{thread}"))
                .spawn(move || runner.run())
                .map_err(|error| LoadError::Threads {
                    threads: settings.threads,
                    reason: error.to_string(),
                })?;
        }
        Ok(threads)
    }

    /// Runs a computation on a compute thread and waits for its result.
    fn ask<T: Send + 'static>(
        &self,
        task: impl FnOnce(&Model<B>, &mut Workspace<B>) -> candle_core::Result<T> + Send + 'static,
    ) -> Result<T, RowError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let task: Task<B> = Box::new(move |model, work| {
            // The caller waits on the channel, so sending cannot fail.
            let _ = sender.send(task(model, work));
        });
        self.shared.queue.push_task(task);
        match receiver.recv() {
            Ok(answer) => answer.map_err(|error| RowError::Compute(error.to_string())),
            Err(_) => Err(RowError::Panicked("the compute thread sent no answer".to_owned())),
        }
    }
}

impl<B: Backend> Drop for Threads<B> {
    /// The threads finish all requests and then exit, so that a model can be replaced under load.
    fn drop(&mut self) {
        self.shared.queue.stop();
    }
}

impl<B: Backend> Batcher for Threads<B> {
    fn submit(&self, request: &GenerateRequest, subscriber: Subscriber) {
        let ids: Arc<[u32]> = request.encoded.ids.as_slice().into();
        let settings = &self.shared.settings;
        let mut params = request.params.clone();
        if let Some(context) = self.shared.model.config().context() {
            // Beyond its context a model writes nonsense.
            params.max_new_tokens = params
                .max_new_tokens
                .min(context.saturating_sub(ids.len()).max(1));
            params.min_new_tokens = params.min_new_tokens.min(params.max_new_tokens);
        }
        // Two samples without a seed are different requests.
        let equal_is_same = !params.do_sample || params.seed.is_some();
        let key = (settings.share_equal && equal_is_same).then(|| {
            let stop = request.stop.as_ref().map(|stop| stop.address());
            (ids.clone(), format!("{params:?} {stop:?}"))
        });
        let subscribers = Arc::<Subscribers>::default();
        subscribers.lock().push(subscriber);
        if let Some(key) = &key {
            let mut in_flight = self.shared.in_flight.lock();
            match in_flight.entry(key.clone()) {
                Entry::Occupied(equal) => {
                    equal.get().join(&subscribers);
                    return;
                }
                Entry::Vacant(place) => {
                    place.insert(subscribers.clone());
                }
            }
        }
        let text = settings.bytes_of_text(ids.len());
        let generated = params.num_beams * (params.max_new_tokens + 1) * settings.bytes_per_token;
        self.shared.queue.push(Ticket {
            ids,
            seed: params.seed.unwrap_or_else(rand::random),
            stop: request.stop.clone(),
            joinable: key.map(|key| Joinable {
                key,
                among: self.shared.in_flight.clone(),
            }),
            subscribers,
            cost: Cost {
                rows: params.num_beams,
                bytes: text + generated,
            },
            params,
            submitted: crate::clock::now(),
            passed: 0,
        });
    }

    fn encode(&self, ids: &[u32]) -> Result<Vec<f32>, RowError> {
        let ids = ids.to_vec();
        self.ask(move |model, work| model.encode(work, &ids))
    }

    fn first_logits(&self, ids: &[u32]) -> Result<Vec<f32>, RowError> {
        let (ids, start) = (ids.to_vec(), self.shared.start);
        self.ask(move |model, work| {
            let mut logits = RowLogits::new(Isa::detect());
            logits.begin(Wanted::All, Vec::new());
            model.first_step(work, &ids, start, &mut |part| {
                if let Logits::Columns(first, block) = part {
                    logits.feed(first, block);
                }
            })?;
            Ok(logits.all().to_vec())
        })
    }

    fn load(&self) -> Load {
        self.shared.queue.load()
    }

    #[cfg(test)]
    fn panic_next(&self) {
        self.shared
            .panic_next
            .store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
