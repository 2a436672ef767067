//! Progress of downloads: a spinner on a terminal, plain lines elsewhere.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

/// Interval between progress lines without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Where to show progress.
#[derive(Clone)]
pub struct Progress(Target);

#[derive(Clone)]
enum Target {
    Silent,
    Stderr,
    Lines(Arc<dyn Fn(&str) + Send + Sync>),
}

impl Progress {
    /// Shows progress on stderr: a spinner on a terminal, lines otherwise.
    pub fn stderr() -> Self {
        Self(Target::Stderr)
    }

    /// Shows no progress.
    pub fn silent() -> Self {
        Self(Target::Silent)
    }

    /// Passes progress lines to a function.
    pub fn lines(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Target::Lines(Arc::new(sink)))
    }

    /// Prints a line.
    pub(crate) fn print(&self, text: &str) {
        match &self.0 {
            Target::Silent => {}
            Target::Stderr => eprintln!("{text}"),
            Target::Lines(sink) => sink(text),
        }
    }

    /// Starts an activity that takes a while.
    pub(crate) fn start(&self, text: &str) -> Activity {
        let spinner = match &self.0 {
            Target::Stderr if std::io::stderr().is_terminal() => {
                let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                    spinner.set_style(style);
                }
                spinner.set_message(text.to_owned());
                spinner.enable_steady_tick(Duration::from_millis(120));
                Some(spinner)
            }
            _ => {
                self.print(text);
                None
            }
        };
        Activity {
            progress: self.clone(),
            text: text.to_owned(),
            spinner,
            last: Mutex::new(Instant::now()),
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match &self.0 {
            Target::Silent => "Progress::silent",
            Target::Stderr => "Progress::stderr",
            Target::Lines(_) => "Progress::lines",
        })
    }
}

/// An activity in progress. Dropping it clears its spinner.
pub(crate) struct Activity {
    progress: Progress,
    text: String,
    spinner: Option<ProgressBar>,
    last: Mutex<Instant>,
}

impl Activity {
    /// Shows the number of bytes so far.
    pub(crate) fn show_bytes(&self, bytes: u64) {
        let text = format!("{}: {}", self.text, HumanBytes(bytes));
        match &self.spinner {
            Some(spinner) => spinner.set_message(text),
            None => {
                let mut last = self.last.lock();
                if last.elapsed() >= LINE_INTERVAL {
                    *last = Instant::now();
                    self.progress.print(&text);
                }
            }
        }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}
