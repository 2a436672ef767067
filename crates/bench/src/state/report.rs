//! The report of `precis bench state`.

use std::fmt;

use super::load::Cost;

/// The measurement of one fill level.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Step {
    /// Messages in the stream.
    pub(super) stored: u64,
    /// Publishing one message and waiting for its acknowledgement.
    pub(super) publish: Cost,
    /// Reading one message of the whole stream.
    pub(super) lookup: Cost,
    /// Reading one of the newest messages.
    pub(super) recent_lookup: Cost,
    /// Resident memory of the server, where the system reports it.
    pub(super) server_megabytes: Option<f64>,
}

/// All measurements.
#[derive(Debug, serde::Serialize)]
pub(super) struct Report {
    pub(super) jobs: Vec<Step>,
    pub(super) results: Vec<Step>,
    /// Cost at the last step divided by that at the first.
    pub(super) ratios: Vec<(String, f64)>,
    /// Creating the consumer of one tenant beside all queued jobs, in milliseconds.
    pub(super) consumer_ms: f64,
    pub(super) disk_megabytes: f64,
    pub(super) restart_seconds_after_sigterm: f64,
    pub(super) restart_seconds_after_sigkill: f64,
    pub(super) server_megabytes_after_restart: Option<f64>,
}

/// Returns the cost at the last step divided by that at the first.
pub(super) fn ratios(jobs: &[Step], results: &[Step]) -> Vec<(String, f64)> {
    let mut ratios = Vec::new();
    for (name, steps) in [("job", jobs), ("result", results)] {
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
            continue;
        };
        for (operation, first, last) in [
            (format!("publish a {name}"), first.publish, last.publish),
            (format!("look up any {name}"), first.lookup, last.lookup),
            (
                format!("look up a recent {name}"),
                first.recent_lookup,
                last.recent_lookup,
            ),
        ] {
            ratios.push((format!("{operation}, p50"), last.p50_ms / first.p50_ms));
            ratios.push((
                format!("{operation}, server CPU"),
                last.server_cpu_us / first.server_cpu_us,
            ));
        }
    }
    ratios
}

fn write_steps(f: &mut fmt::Formatter<'_>, name: &str, steps: &[Step]) -> fmt::Result {
    writeln!(
        f,
        "{name:>12}  {:^27}  {:^27}  {:^27}  server (MB)",
        "publish (p50, p99, CPU)", "look up any", "look up a recent one"
    )?;
    for step in steps {
        write!(f, "{:>12}", step.stored)?;
        for cost in [step.publish, step.lookup, step.recent_lookup] {
            let Cost {
                p50_ms,
                p99_ms,
                server_cpu_us,
            } = cost;
            write!(f, "  {p50_ms:>6.2} ms {p99_ms:>6.1} ms {server_cpu_us:>5.0} µs")?;
        }
        writeln!(f, "  {:>11.0}", step.server_megabytes.unwrap_or(f64::NAN))?;
    }
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_steps(f, "jobs", &self.jobs)?;
        writeln!(f)?;
        write_steps(f, "results", &self.results)?;
        writeln!(f, "\nlast step compared with the first")?;
        for (name, ratio) in &self.ratios {
            writeln!(f, "  {name:<36} {ratio:>6.2} ×")?;
        }
        writeln!(f, "creating a tenant's consumer: {:.1} ms", self.consumer_ms)?;
        writeln!(f, "stored: {:.0} MB", self.disk_megabytes)?;
        writeln!(
            f,
            "restart: {:.1} s after SIGTERM, {:.1} s after SIGKILL; then {:.0} MB",
            self.restart_seconds_after_sigterm,
            self.restart_seconds_after_sigkill,
            self.server_megabytes_after_restart.unwrap_or(f64::NAN)
        )
    }
}
