//! The no-op engine with faults on demand, for tests of everything around the engine.
//!
//! A text that starts with a directive makes the engine misbehave as a real one can:
//!
//! | directive | effect |
//! | --- | --- |
//! | `[[sleep 300]]` | answers after 300 ms |
//! | `[[panic]]` | the computation panics, which fails the request |
//! | `[[hang]]` | never answers |
//! | `[[abort]]` | ends the process, as a crash in native code does |
//! | `[[exhaust]]` | allocates more memory than there is, which ends the process |
//!
//! Any other text is answered at once, as the no-op engine does.

use std::panic::catch_unwind;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::batching::{Batcher, Event, Load, Subscriber};
use crate::error::RowError;
use crate::generate::GenerateRequest;
use crate::noop::FirstSentence;

/// A directive at the start of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Directive {
    Sleep(Duration),
    Panic,
    Hang,
    Abort,
    Exhaust,
}

impl Directive {
    fn of(ids: &[u32]) -> Option<Self> {
        let bytes: Vec<u8> = ids.iter().filter_map(|id| u8::try_from(*id).ok()).collect();
        let text = String::from_utf8_lossy(&bytes);
        let (name, _) = text.trim_start().strip_prefix("[[")?.split_once("]]")?;
        match name.split_once(' ') {
            Some(("sleep", milliseconds)) => {
                Some(Self::Sleep(Duration::from_millis(milliseconds.parse().ok()?)))
            }
            Some(_) => None,
            None => match name {
                "panic" => Some(Self::Panic),
                "hang" => Some(Self::Hang),
                "abort" => Some(Self::Abort),
                "exhaust" => Some(Self::Exhaust),
                _ => None,
            },
        }
    }
}

/// A batcher that obeys directives.
#[derive(Default)]
pub(crate) struct Faulty {
    /// Requests that hang, until their callers give up.
    hanging: Mutex<Vec<Subscriber>>,
}

impl Batcher for Faulty {
    fn submit(&self, request: &GenerateRequest, subscriber: Subscriber) {
        let Some(directive) = Directive::of(&request.encoded.ids) else {
            return FirstSentence.submit(request, subscriber);
        };
        subscriber.send(Event::Started);
        match directive {
            Directive::Sleep(duration) => answer_after(duration, request.clone(), subscriber),
            Directive::Panic => {
                let computed: std::thread::Result<()> = catch_unwind(|| panic!("the text asks for a panic"));
                if let Err(panic) = computed {
                    subscriber.send(Event::Failed(RowError::panicked(panic.as_ref())));
                }
            }
            Directive::Hang => {
                let mut hanging = self.hanging.lock();
                hanging.retain(|subscriber| !subscriber.is_gone());
                hanging.push(subscriber);
            }
            Directive::Abort => std::process::abort(),
            Directive::Exhaust => {
                let mut memory: Vec<u8> = Vec::new();
                // Half of the address space: every allocator fails, and the process ends.
                memory.reserve_exact(isize::MAX as usize);
            }
        }
    }

    fn encode(&self, ids: &[u32]) -> Result<Vec<f32>, RowError> {
        FirstSentence.encode(ids)
    }

    fn first_logits(&self, ids: &[u32]) -> Result<Vec<f32>, RowError> {
        FirstSentence.first_logits(ids)
    }

    fn load(&self) -> Load {
        Load::default()
    }
}

/// Answers from a thread of its own, so that other requests go on meanwhile.
fn answer_after(duration: Duration, request: GenerateRequest, subscriber: Subscriber) {
    let (subscribers, received) = mpsc::channel::<Subscriber>();
    let wait = move || {
        // Nothing is sent on this channel: it only sleeps.
        let (_never, timer) = mpsc::channel::<()>();
        let _timed_out = timer.recv_timeout(duration);
        if let Ok(subscriber) = received.recv() {
            FirstSentence.submit(&request, subscriber);
        }
    };
    match std::thread::Builder::new()
        .name("engine-sleep".into())
        .spawn(wait)
    {
        // The thread holds the receiver until it has received, so sending cannot fail.
        Ok(_thread) => drop(subscribers.send(subscriber)),
        Err(error) => subscriber.send(Event::Failed(RowError::Compute(error.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Engine, EngineOptions, ModelSource};

    fn directive(text: &str) -> Option<Directive> {
        let ids: Vec<u32> = text.bytes().map(u32::from).collect();
        Directive::of(&ids)
    }

    #[test]
    fn only_a_known_directive_at_the_start_counts() {
        let nap = Directive::Sleep(Duration::from_millis(30));
        assert_eq!(directive("[[sleep 30]] Rain fell."), Some(nap));
        assert_eq!(directive("[[abort]] Rain fell."), Some(Directive::Abort));
        for text in [
            "Rain fell. [[abort]]",
            "[[sleep]]",
            "[[sleep x]]",
            "[[dance]]",
            "[[panic",
        ] {
            assert_eq!(directive(text), None, "{text}");
        }
    }

    #[test]
    fn a_panic_fails_its_request_and_a_sleeper_holds_up_no_other() {
        let engine = Engine::load(&ModelSource::Faulty, &EngineOptions::default()).unwrap();
        let submit = |text: &str| {
            let encoded = engine.tokenize(text).unwrap();
            engine
                .submit(&GenerateRequest::new(encoded, engine.default_params().clone()))
                .unwrap()
        };
        let sleeper = submit("[[sleep 20]] Rain fell. It was wet.");
        let hanging = submit("[[hang]]");
        let error = submit("[[panic]]").wait().unwrap_err();
        assert!(matches!(error, RowError::Panicked(_)), "{error}");
        assert_eq!(
            submit("Rain fell. It was wet.").wait().unwrap().text,
            "Rain fell."
        );
        assert_eq!(sleeper.wait().unwrap().text, "[[sleep 20]] Rain fell.");
        drop(hanging);
    }
}
