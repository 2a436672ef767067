//! The figures of `precis bench engine`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// Figures by name, and the ratios computed from them.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Processor milliseconds per summary on one thread, by engine.
    pub(super) cpu_ms: BTreeMap<String, f64>,
    /// Summaries per second of wall-clock time, by engine and threads.
    pub(super) per_second: BTreeMap<String, f64>,
    pub(super) ratios: BTreeMap<String, f64>,
    /// Conditions of the run and raw figures; in the JSON only.
    pub(super) details: BTreeMap<String, Value>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.cpu_ms {
            writeln!(f, "{name:32} {value:10.2} ms of processor time per summary")?;
        }
        for (name, value) in &self.per_second {
            writeln!(f, "{name:32} {value:10.2} summaries per second")?;
        }
        for (name, value) in &self.ratios {
            writeln!(f, "{name:44} {value:7.2}")?;
        }
        Ok(())
    }
}
