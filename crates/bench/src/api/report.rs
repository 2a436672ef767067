//! Aggregates rounds into one table: the median of each figure, and ratios.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::load::Figures;
use crate::stats::median;

/// The figures of one round.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Milliseconds per direct engine call.
    pub(super) direct_ms: f64,
    /// Seconds of processor time by process, while the largest number of clients waited for results.
    pub(super) processor: BTreeMap<String, f64>,
    /// Jobs completed in that time.
    pub(super) processor_jobs: usize,
    /// Figures by measurement and number of clients.
    pub(super) figures: BTreeMap<(&'static str, usize), Figures>,
}

impl Round {
    pub(super) fn add(&mut self, name: &'static str, clients: usize, figures: Figures) {
        self.figures.insert((name, clients), figures);
    }

    pub(super) fn per_second(&self, name: &'static str, clients: usize) -> f64 {
        self.figures
            .get(&(name, clients))
            .map_or(f64::NAN, |figures| figures.per_second)
    }
}

/// All rounds.
#[derive(Debug)]
pub(super) struct Report {
    clients: Vec<usize>,
    rounds: Vec<Round>,
}

/// Medians over all rounds.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Milliseconds per direct engine call.
    direct_ms: f64,
    /// Figures by measurement and number of clients.
    figures: BTreeMap<&'static str, BTreeMap<usize, Figures>>,
    /// Microseconds of processor time per job, by process. `bench` stands for the clients.
    processor_us: BTreeMap<String, f64>,
    /// Number of clients during that measurement.
    processor_clients: usize,
    ratios: BTreeMap<String, f64>,
}

impl Report {
    /// Returns an empty report for these numbers of clients.
    pub(super) fn new(clients: Vec<usize>) -> Self {
        Self {
            clients,
            rounds: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    fn median_of(&self, of: impl Fn(&Round) -> Option<f64>) -> f64 {
        median(self.rounds.iter().filter_map(of).collect())
    }

    pub(super) fn summary(&self) -> Summary {
        let mut figures: BTreeMap<&'static str, BTreeMap<usize, Figures>> = BTreeMap::new();
        let mut processor_us = BTreeMap::new();
        if let Some(first) = self.rounds.first() {
            for key in first.figures.keys() {
                let of = |part: fn(&Figures) -> f64| self.median_of(|round| round.figures.get(key).map(part));
                let medians = Figures {
                    all_calls: 0,
                    per_second: of(|figures| figures.per_second),
                    p50_ms: of(|figures| figures.p50_ms),
                    p99_ms: of(|figures| figures.p99_ms),
                };
                figures.entry(key.0).or_default().insert(key.1, medians);
            }
            for name in first.processor.keys() {
                let us = self.median_of(|round| {
                    let seconds = round.processor.get(name)?;
                    Some(1e6 * seconds / round.processor_jobs as f64)
                });
                processor_us.insert(name.clone(), us);
            }
        }
        Summary {
            direct_ms: self.median_of(|round| Some(round.direct_ms)),
            figures,
            processor_us,
            processor_clients: self.clients.iter().copied().max().unwrap_or_default(),
            ratios: self.ratios(),
        }
    }

    /// Returns the product's throughput relative to each upper bound.
    fn ratios(&self) -> BTreeMap<String, f64> {
        let mut ratios = BTreeMap::new();
        for bound in ["raw queue", "request-reply"] {
            for &clients in &self.clients {
                let ratio = |round: &Round| {
                    let ratio = round.per_second("wait", clients) / round.per_second(bound, clients);
                    ratio.is_finite().then_some(ratio)
                };
                let rounds: Vec<f64> = self.rounds.iter().filter_map(ratio).collect();
                if !rounds.is_empty() {
                    let noun = if clients == 1 { "client" } else { "clients" };
                    let name = format!("throughput relative to {bound}, {clients} {noun}");
                    ratios.insert(name, median(rounds));
                }
            }
        }
        ratios
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:24} {:>7} {:>12} {:>10} {:>10}",
            "", "clients", "calls/s", "p50 ms", "p99 ms"
        )?;
        for (name, by_clients) in &self.figures {
            for (clients, figures) in by_clients {
                let Figures {
                    per_second,
                    p50_ms,
                    p99_ms,
                    ..
                } = figures;
                writeln!(
                    f,
                    "{name:24} {clients:7} {per_second:12.0} {p50_ms:10.2} {p99_ms:10.2}"
                )?;
            }
        }
        writeln!(
            f,
            "{:24} {:7} {:>12} {:10.4}",
            "direct engine call", 1, "", self.direct_ms
        )?;
        let all: f64 = self.processor_us.values().sum();
        writeln!(
            f,
            "\nprocessor time per job with {} waiting clients: {all:.0} µs",
            self.processor_clients
        )?;
        for (name, us) in &self.processor_us {
            writeln!(f, "  {name:22} {us:7.0} µs")?;
        }
        writeln!(f)?;
        for (name, ratio) in &self.ratios {
            writeln!(f, "{name:56} {ratio:7.3}")?;
        }
        Ok(())
    }
}
