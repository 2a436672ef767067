//! Shows how far a batch is: a bar on a terminal, or else a line from time to time.

use std::fmt;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use precis_runtime::clock::Instant;
use precis_schemas::Outcome;

use super::journal::RowOutcome;
use crate::cli::grouped;

/// Interval between lines without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Rows without a summary to print.
const MAX_PRINTED: u64 = 10;

/// What holds up a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The queue takes no jobs.
    Queue,
    /// The results can't be read.
    Results,
}

#[derive(Debug)]
struct State {
    done: u64,
    failed: u64,
    printed: u64,
    /// Rows that were done at the start.
    before: u64,
    started: Instant,
    last_line: Instant,
    obstacle: Option<(Obstacle, String)>,
}

/// The progress of a batch, on standard error.
pub(super) struct Progress {
    rows: u64,
    bar: Option<ProgressBar>,
    is_quiet: bool,
    state: std::sync::Mutex<State>,
}

/// Writes rows per second.
fn write_rate(state: &ProgressState, text: &mut dyn fmt::Write) {
    // The bar is only for people. Without its text it is still one.
    let _written = write!(text, "{:.1}/s", state.per_sec());
}

impl Progress {
    /// Starts with rows that an earlier run has done.
    pub(super) fn start(rows: u64, done: u64, failed: u64, is_quiet: bool) -> Self {
        let shows_bar = !is_quiet && std::io::stderr().is_terminal();
        let bar = shows_bar.then(|| {
            let bar = ProgressBar::with_draw_target(Some(rows), ProgressDrawTarget::stderr());
            let template = "{bar:30} {human_pos} of {human_len} rows, {msg} {rate}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.with_key("rate", write_rate));
            }
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        let now = Instant::now();
        Self {
            rows,
            bar,
            is_quiet,
            state: std::sync::Mutex::new(State {
                done,
                failed,
                printed: 0,
                before: done,
                started: now,
                last_line: now,
                obstacle: None,
            }),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Prints a line above the bar.
    pub(super) fn print(&self, line: &str) {
        match &self.bar {
            _ if self.is_quiet => {}
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// Counts a row. The first ones without a summary are printed.
    pub(super) fn add(&self, outcome: &RowOutcome) {
        let mut state = self.state();
        state.done += 1;
        if outcome.status != Outcome::Succeeded {
            state.failed += 1;
            state.printed += 1;
            let line = match state.printed {
                printed if printed <= MAX_PRINTED => {
                    let error = outcome.error.as_deref().unwrap_or_default();
                    let error = error
                        .strip_suffix(&format!(" (line {})", outcome.line))
                        .unwrap_or(error);
                    Some(format!("line {}: {error}", outcome.line))
                }
                printed if printed == MAX_PRINTED + 1 => {
                    Some("More rows have no summary. The results say why.".to_owned())
                }
                _ => None,
            };
            drop(state);
            if let Some(line) = line {
                self.print(&line);
            }
        }
    }

    /// Shows what holds up the batch.
    pub(super) fn hold(&self, obstacle: Obstacle, reason: &str) {
        let mut state = self.state();
        if state
            .obstacle
            .as_ref()
            .is_some_and(|(known, _)| *known == obstacle)
        {
            return;
        }
        state.obstacle = Some((obstacle, reason.to_owned()));
        drop(state);
        self.print(&format!("Waiting, and trying again: {reason}"));
    }

    /// Notes that an obstacle is gone.
    pub(super) fn clear(&self, obstacle: Obstacle) {
        let mut state = self.state();
        if state
            .obstacle
            .as_ref()
            .is_some_and(|(known, _)| *known == obstacle)
        {
            state.obstacle = None;
            drop(state);
            self.print("Going on.");
        }
    }

    /// Shows the current numbers.
    pub(super) fn tick(&self) {
        let mut state = self.state();
        if let Some(bar) = &self.bar {
            bar.set_position(state.done);
            bar.set_message(format!("{} failed,", grouped(state.failed)));
            return;
        }
        if self.is_quiet || state.last_line.elapsed() < LINE_INTERVAL {
            return;
        }
        state.last_line = Instant::now();
        let seconds = state.started.elapsed().as_secs_f64();
        let rate = (state.done - state.before) as f64 / seconds.max(0.001);
        let left = match rate > 0.0 {
            true => format!("{:.0} s left", (self.rows - state.done) as f64 / rate),
            false => "none has ended yet".to_owned(),
        };
        eprintln!(
            "{} of {} rows, {} failed, {rate:.1}/s, {left}",
            grouped(state.done),
            grouped(self.rows),
            grouped(state.failed)
        );
    }

    /// Removes the bar.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
