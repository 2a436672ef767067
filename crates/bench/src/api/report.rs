//! Rounds become one table: the median of each figure, and ratios.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::super::clock::median;
use super::load::Figures;

/// Everything once.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Milliseconds of a direct call of the engine.
    pub(super) direct_ms: f64,
    /// Seconds of processor time by process while the most clients waited for results.
    pub(super) processor: BTreeMap<String, f64>,
    /// Jobs that were done in that time.
    pub(super) processor_jobs: usize,
    /// By what was measured, and the number of clients.
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

/// What they come to.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Milliseconds of a direct call of the engine.
    direct_ms: f64,
    /// Medians over the rounds, by what was measured and the number of clients.
    figures: BTreeMap<&'static str, BTreeMap<usize, Figures>>,
    /// Microseconds of processor time for a job, by process; `bench` are the clients.
    processor_us: BTreeMap<String, f64>,
    /// Clients that waited meanwhile.
    processor_clients: usize,
    ratios: BTreeMap<String, f64>,
}

impl Report {
    /// Of rounds with these numbers of clients.
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
        let compared = |clients: &usize, of: &'static str| {
            let ratio = |round: &Round| {
                let ratio = round.per_second("wait", *clients) / round.per_second(of, *clients);
                ratio.is_finite().then_some(ratio)
            };
            let rounds: Vec<f64> = self.rounds.iter().filter_map(ratio).collect();
            let noun = if *clients == 1 { "client" } else { "clients" };
            let name = format!("jobs per second, of the {of}'s, {clients} {noun}");
            (!rounds.is_empty()).then(|| (name, median(rounds)))
        };
        let ratios = ["raw queue", "request-reply"];
        let ratios = ratios.iter().flat_map(|of| {
            self.clients
                .iter()
                .filter_map(move |clients| compared(clients, of))
        });
        let ratios = ratios.collect();
        Summary {
            direct_ms: self.median_of(|round| Some(round.direct_ms)),
            figures,
            processor_us,
            processor_clients: self.clients.iter().copied().max().unwrap_or_default(),
            ratios,
        }
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
            "engine called directly", 1, "", self.direct_ms
        )?;
        let all: f64 = self.processor_us.values().sum();
        writeln!(
            f,
            "\nprocessor time of a job, {} clients that wait: {all:.0} µs",
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
