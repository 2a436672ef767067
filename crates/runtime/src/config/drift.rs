//! The section of what compares a model with what it was.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `[drift]`: how far a model is from what it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DriftConfig {
    /// How often it is computed, in minutes; 0: never.
    pub every_minutes: u64,
    /// The window to which days are compared begins here. Without it, the first `baseline_days` days of each model are
    /// pinned as soon as they are over.
    pub baseline_from: Option<Timestamp>,
    /// And ends before this.
    pub baseline_to: Option<Timestamp>,
    /// Days of a window that is pinned by itself.
    pub baseline_days: u32,
    /// Fewest predictions of a model in the window, and on a day, that are compared.
    pub min_rows: u64,
    /// Population stability index from which there is an alert.
    pub psi_alert: f64,
    /// Shift of the mean, in standard deviations of the baseline, from which there is an alert.
    pub shift_alert: f64,
}

impl Default for DriftConfig {
    fn default() -> Self {
        Self {
            every_minutes: 60,
            baseline_from: None,
            baseline_to: None,
            baseline_days: 7,
            min_rows: 200,
            psi_alert: 0.2,
            shift_alert: 0.5,
        }
    }
}

impl DriftConfig {
    /// The first setting that makes no sense, and what is wrong with it.
    pub(super) fn mistake(&self) -> Option<(&'static str, &'static str)> {
        let window = match (self.baseline_from, self.baseline_to) {
            (Some(from), Some(to)) => from < to,
            (from, to) => from.is_none() && to.is_none(),
        };
        let rules = [
            (
                self.every_minutes <= 10_080,
                "drift.every_minutes",
                "must be at most 10080",
            ),
            (
                window,
                "drift.baseline_from",
                "must come with a later drift.baseline_to, or both be left out",
            ),
            (
                (1..=366).contains(&self.baseline_days),
                "drift.baseline_days",
                "must be 1 to 366",
            ),
            (self.min_rows >= 2, "drift.min_rows", "must be at least 2"),
            (self.psi_alert > 0.0, "drift.psi_alert", "must be above 0"),
            (self.shift_alert > 0.0, "drift.shift_alert", "must be above 0"),
        ];
        let broken = rules.into_iter().find(|(holds, ..)| !holds);
        broken.map(|(_, key, problem)| (key, problem))
    }
}
