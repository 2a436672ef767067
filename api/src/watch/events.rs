//! What happens to a job, as a stream of Server-Sent Events.
//!
//! | event | id | data |
//! | --- | --- | --- |
//! | `state` | `<attempt>.0`, and `0.0` while it waits | the job (`rest::JobView`), `queued` or `running` |
//! | `text` | `<attempt>.<part>` | the summary as far as it is written (`rest::TextSoFar`) |
//! | `result` | `end` | the job with its end |
//!
//! The ids come from what workers say and not from this process, so that a client goes on at any replica: with
//! `Last-Event-ID` it gets what is later than that. An event has all that was said before it; what was missed in between
//! is no loss.

use std::str::FromStr;
use std::time::Duration;

use axum::response::sse::Event;
use precis_runtime::clock;
use precis_schemas::JobHandle;
use precis_schemas::event::Progress;
use precis_schemas::rest::{JobView, Status, TextSoFar};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::access::Caller;
use crate::jobs::lookup;
use crate::jobs::lookup::Look;
use crate::jobs::view;
use crate::state::AppState;
use crate::watch::signs::Watcher;
use crate::watch::wait::Waiter;

/// How often a job that waits is given its place in the queue anew.
const PLACE_EVERY: Duration = Duration::from_secs(2);
/// After so many of these it is looked up.
const LOOK_EVERY: u64 = 15;
/// Longest that a stream stands open; no job is worked on for so long.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How far a client has seen: attempt and part, or everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    attempt: u64,
    part: u64,
}

/// What a client had seen last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastId {
    /// An event before the end.
    At(Seen),
    /// The end.
    End,
}

impl FromStr for LastId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "end" {
            return Ok(Self::End);
        }
        let (attempt, part) = text.split_once('.').ok_or(())?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| ());
        Ok(Self::At(Seen {
            attempt: number(attempt)?,
            part: number(part)?,
        }))
    }
}

/// The events of one job for one client. Places are taken before the first look, so that nothing falls in between.
pub(crate) struct Events {
    state: AppState,
    caller: Caller,
    handle: JobHandle,
    progress: Watcher,
    seen: Option<Seen>,
    /// The last state that was sent.
    shown: Option<JobView>,
    out: mpsc::Sender<Event>,
}

impl Events {
    /// Takes a place.
    pub(crate) fn new(
        state: AppState,
        caller: Caller,
        handle: JobHandle,
        seen: Option<Seen>,
        out: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            progress: state.running().watch(&handle.id),
            state,
            caller,
            handle,
            seen,
            shown: None,
            out,
        }
    }

    /// Sends events until the job has ended, the client has gone, or the process is to stop. `first` is the job as it is;
    /// `waiter` took its place before that look.
    pub(crate) async fn run(mut self, mut waiter: Waiter, first: Look) {
        let state = self.state.clone();
        waiter.stands_at(self.handle.sequence);
        waiter.is_for(&self.caller);
        let ended = waiter.result(&state, Instant::now() + LONGEST);
        tokio::pin!(ended);
        let mut tick = tokio::time::interval(PLACE_EVERY);
        let mut ticks = 0;
        let mut now = first;
        loop {
            if now.view.status.is_final() {
                self.send("result", "end".to_owned(), &now.view).await;
                return;
            }
            if !self.tell(&now.view).await {
                return;
            }
            tokio::select! {
                result = &mut ended => match result {
                    Some(result) => now = Look::ended(result),
                    None => return,
                },
                () = self.progress.changed() => {}
                () = self.out.closed() => return,
                _ = tick.tick() => {
                    ticks += 1;
                    match self.look_again(&now, ticks % LOOK_EVERY == 0).await {
                        Ok(look) => now = look,
                        // It is gone: who comes again is told so.
                        Err(_) => return,
                    }
                }
            }
            if !now.view.status.is_final()
                && let Some(progress) = state.running().get(&self.handle)
            {
                now.view = JobView {
                    submitted_at: now.view.submitted_at,
                    ..view::running(&self.handle, &progress)
                };
            }
        }
    }

    /// The job as it is by now. Its place in the queue is known from a look that all share; a whole look is rare.
    async fn look_again(&self, last: &Look, whole: bool) -> Result<Look, ()> {
        let is_up = last
            .deadline
            .is_some_and(|deadline| lookup::given_up_at(deadline) < clock::now());
        if whole || (is_up && last.view.status == Status::Queued) {
            return match lookup::look(&self.state, &self.caller, &self.handle).await {
                Ok(look) => Ok(look),
                Err(refusal) if refusal.code.is_retryable() => Ok(last.clone()),
                Err(_) => Err(()),
            };
        }
        let mut look = last.clone();
        if let (Status::Queued, Some(subject), Some(sequence)) =
            (last.view.status, &last.subject, self.handle.sequence)
        {
            look.view = JobView {
                submitted_at: last.view.submitted_at,
                ..lookup::waiting(&self.state, &self.handle, sequence, subject).await
            };
        }
        Ok(look)
    }

    /// Sends what is new of a job that has not ended; false when the client has gone.
    async fn tell(&mut self, now: &JobView) -> bool {
        let progress = self.state.running().get(&self.handle);
        let attempt = progress.as_ref().map_or(0, |progress| progress.attempt);
        let begun = Seen { attempt, part: 0 };
        // A worker that was killed has handed back what it began with: only another attempt goes on.
        let moved = self.shown.as_ref().is_none_or(|shown| {
            (shown.status, shown.position, shown.attempt) != (now.status, now.position, now.attempt)
        });
        if moved
            && self
                .seen
                .is_none_or(|seen| begun > seen || (begun == seen && attempt == 0))
        {
            if !self.send("state", format!("{attempt}.0"), now).await {
                return false;
            }
            self.seen = Some(begun);
        }
        self.shown = Some(now.clone());
        match progress.as_ref().and_then(text_of) {
            Some((at, text)) if self.seen.is_none_or(|seen| at > seen) => {
                self.seen = Some(at);
                self.send("text", format!("{}.{}", at.attempt, at.part), &text)
                    .await
            }
            _ => true,
        }
    }

    async fn send(&self, kind: &str, id: String, data: &impl serde::Serialize) -> bool {
        match Event::default().event(kind).id(id).json_data(data) {
            Ok(event) => self.out.send(event).await.is_ok(),
            Err(error) => {
                tracing::error!(job = %self.handle, %error, "an event can't be written");
                false
            }
        }
    }
}

fn text_of(progress: &Progress) -> Option<(Seen, TextSoFar)> {
    let seen = Seen {
        attempt: progress.attempt,
        part: progress.part?,
    };
    let text = TextSoFar {
        attempt: seen.attempt,
        part: seen.part,
        text: progress.text.clone()?,
    };
    Some((seen, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_how_far_a_client_has_seen() {
        let at = |attempt, part| Ok(LastId::At(Seen { attempt, part }));
        assert_eq!("0.0".parse(), at(0, 0));
        assert_eq!("2.17".parse(), at(2, 17));
        assert_eq!("end".parse(), Ok(LastId::End));
        for bad in ["", "2", "a.b", "2.-1"] {
            assert_eq!(bad.parse::<LastId>(), Err(()), "{bad}");
        }
        assert!(Seen { attempt: 2, part: 0 } > Seen { attempt: 1, part: 9 });
    }
}
