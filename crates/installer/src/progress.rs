//! What the user sees while something is fetched: a spinner with bytes on a terminal, plain lines
//! elsewhere.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

/// Without a terminal, how often a line says how far it is.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Where progress is shown.
#[derive(Clone)]
pub struct Progress(Target);

#[derive(Clone)]
enum Target {
    Silent,
    Stderr,
    Lines(Arc<dyn Fn(&str) + Send + Sync>),
}

impl Progress {
    /// On stderr: a spinner if it is a terminal, lines if not.
    pub fn stderr() -> Self {
        Self(Target::Stderr)
    }

    /// Nowhere.
    pub fn silent() -> Self {
        Self(Target::Silent)
    }

    /// As lines, to a function.
    pub fn lines(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Target::Lines(Arc::new(sink)))
    }

    /// Says one thing.
    pub(crate) fn say(&self, text: &str) {
        match &self.0 {
            Target::Silent => {}
            Target::Stderr => eprintln!("{text}"),
            Target::Lines(sink) => sink(text),
        }
    }

    /// Starts something that takes a while.
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
                self.say(text);
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

/// Something in progress. Its spinner goes away with it.
pub(crate) struct Activity {
    progress: Progress,
    text: String,
    spinner: Option<ProgressBar>,
    last: Mutex<Instant>,
}

impl Activity {
    /// Shows how many bytes there are so far.
    pub(crate) fn bytes(&self, bytes: u64) {
        let text = format!("{}: {}", self.text, HumanBytes(bytes));
        match &self.spinner {
            Some(spinner) => spinner.set_message(text),
            None => {
                let mut last = self.last.lock();
                if last.elapsed() >= LINE_INTERVAL {
                    *last = Instant::now();
                    self.progress.say(&text);
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
