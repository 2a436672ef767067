//! `[drift]`: comparison of each model with its baseline.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ConfigError, Section, check};

/// Comparison of each model with its baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(documented::Documented, documented::DocumentedFields))]
#[serde(deny_unknown_fields, default)]
pub struct DriftConfig {
    /// How often drift is computed, at most 10080. 0: never.
    pub every_minutes: u64,
    /// Start of the baseline. Unset: the first `baseline_days` days of each model become its baseline once they are
    /// over.
    #[serde(deserialize_with = "super::values::optional_time")]
    pub baseline_from: Option<Timestamp>,
    /// End of the baseline (exclusive). Requires `baseline_from`.
    #[serde(deserialize_with = "super::values::optional_time")]
    pub baseline_to: Option<Timestamp>,
    /// Length of an automatic baseline, 1 to 366.
    pub baseline_days: u32,
    /// Minimum number of predictions in the baseline, and on a day, for a comparison. At least 2.
    pub min_rows: u64,
    /// Population stability index that raises an alert.
    pub psi_alert: f64,
    /// Shift of the mean that raises an alert, in standard deviations of the baseline.
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

impl Section for DriftConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let is_window = match (self.baseline_from, self.baseline_to) {
            (Some(from), Some(to)) => from < to,
            (from, to) => from.is_none() && to.is_none(),
        };
        check::at_most("drift.every_minutes", self.every_minutes, 10_080)?;
        check::require(
            is_window,
            "drift.baseline_from",
            "must come with a later drift.baseline_to, or both be left out",
        )?;
        check::within("drift.baseline_days", self.baseline_days, 1..=366)?;
        check::require(self.min_rows >= 2, "drift.min_rows", "must be at least 2")?;
        check::positive("drift.psi_alert", self.psi_alert)?;
        check::positive("drift.shift_alert", self.shift_alert)
    }
}
