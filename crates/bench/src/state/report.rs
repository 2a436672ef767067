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
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) jobs: Vec<Step>,
    pub(super) results: Vec<Step>,
    pub(super) consumer_ms: f64,
    pub(super) disk_megabytes: f64,
    /// After SIGTERM and after SIGKILL.
    pub(super) restart_seconds: Vec<f64>,
    pub(super) server_megabytes_after_restart: Option<f64>,
}

/// What is printed.
#[derive(Debug, serde::Serialize)]
pub(super) struct Summary {
    jobs: Vec<Step>,
    results: Vec<Step>,
    /// Cost at the last level divided by that of the empty stream.
    ratios: Vec<(&'static str, f64)>,
    /// Creating the consumer of one tenant beside all queued jobs, in milliseconds.
    consumer_ms: f64,
    disk_megabytes: f64,
    restart_seconds_after_sigterm: f64,
    restart_seconds_after_sigkill: f64,
    server_megabytes_after_restart: Option<f64>,
}

impl Report {
    pub(super) fn summary(&self) -> Summary {
        let ratio = |steps: &[Step], value: fn(&Step) -> f64| match (steps.first(), steps.last()) {
            (Some(first), Some(last)) => value(last) / value(first),
            _ => f64::NAN,
        };
        let restart = |index: usize| self.restart_seconds.get(index).copied().unwrap_or(f64::NAN);
        Summary {
            ratios: vec![
                (
                    "publish a job, p50",
                    ratio(&self.jobs, |step| step.publish.p50_ms),
                ),
                (
                    "publish a job, server CPU",
                    ratio(&self.jobs, |step| step.publish.server_cpu_us),
                ),
                (
                    "look up any job, p50",
                    ratio(&self.jobs, |step| step.lookup.p50_ms),
                ),
                (
                    "look up a recent job, p50",
                    ratio(&self.jobs, |step| step.recent_lookup.p50_ms),
                ),
                (
                    "publish a result, p50",
                    ratio(&self.results, |step| step.publish.p50_ms),
                ),
                (
                    "publish a result, server CPU",
                    ratio(&self.results, |step| step.publish.server_cpu_us),
                ),
                (
                    "look up a result, p50",
                    ratio(&self.results, |step| step.lookup.p50_ms),
                ),
            ],
            jobs: self.jobs.clone(),
            results: self.results.clone(),
            consumer_ms: self.consumer_ms,
            disk_megabytes: self.disk_megabytes,
            restart_seconds_after_sigterm: restart(0),
            restart_seconds_after_sigkill: restart(1),
            server_megabytes_after_restart: self.server_megabytes_after_restart,
        }
    }
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

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_steps(f, "jobs", &self.jobs)?;
        writeln!(f)?;
        write_steps(f, "results", &self.results)?;
        writeln!(f, "\nlast level compared with the empty stream")?;
        for (name, ratio) in &self.ratios {
            writeln!(f, "  {name:<30} {ratio:>6.2} ×")?;
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
