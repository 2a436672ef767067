//! What happens in a run: jobs and faults at random times. A seed and the number of the run determine all of it.

use std::fmt;
use std::time::Duration;

use precis_schemas::Lane;

use super::random::Random;

/// The time in which jobs are submitted and faults begin.
pub(super) const WINDOW: Duration = Duration::from_secs(6);
/// Submissions of a run.
const SUBMISSIONS: u64 = 40;

/// A process that faults hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Target {
    /// One of the two gateways.
    Gateway(usize),
    /// One of the workers.
    Worker(usize),
    /// The monitor, or one of two.
    Monitor(usize),
    /// The NATS server, or one of a cluster.
    Nats(usize),
    /// ClickHouse.
    ClickHouse,
}

impl Target {
    /// The roles of Precis that faults hit at random. They reach NATS through proxies.
    const ROLES: [Self; 5] = [
        Self::Gateway(0),
        Self::Gateway(1),
        Self::Worker(0),
        Self::Worker(1),
        Self::Monitor(0),
    ];
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(index) => write!(f, "api-{index}"),
            Self::Worker(index) => write!(f, "worker-{index}"),
            Self::Monitor(0) => f.write_str("monitor"),
            Self::Monitor(index) => write!(f, "monitor-{index}"),
            Self::Nats(0) => f.write_str("nats"),
            Self::Nats(index) => write!(f, "nats-{index}"),
            Self::ClickHouse => f.write_str("clickhouse"),
        }
    }
}

/// What a proxy does to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// It closes them and accepts none.
    Cut,
    /// It keeps them open and passes nothing on.
    HalfOpen,
    /// It passes data on after a delay.
    Slow(Duration),
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL, and a restart after a time.
    Kill(Target),
    /// SIGTERM, and a restart after a time.
    Stop(Target),
    /// SIGSTOP, and SIGCONT after a time.
    Freeze(Target),
    /// The connection to NATS.
    Link(Target, Link),
    /// The time of day jumps by these seconds, and back after a time.
    Clock(Target, i64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(target) => write!(f, "kill {target}"),
            Self::Stop(target) => write!(f, "stop {target}"),
            Self::Freeze(target) => write!(f, "freeze {target}"),
            Self::Link(target, Link::Cut) => write!(f, "cut {target}"),
            Self::Link(target, Link::HalfOpen) => write!(f, "half-open {target}"),
            Self::Link(target, Link::Slow(by)) => write!(f, "slow {target} by {} ms", by.as_millis()),
            Self::Clock(target, seconds) => write!(f, "clock {target} {seconds:+} s"),
        }
    }
}

/// What the engine does with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// It answers at once.
    Answer,
    /// It answers after a time.
    Sleep(Duration),
    /// It panics.
    Panic,
    /// It ends the process.
    Abort,
    /// It never answers. The job has a deadline.
    Hang,
}

impl Behaviour {
    /// Returns the directive for `benchmark:faulty`.
    pub(super) fn directive(self) -> String {
        match self {
            Self::Answer => String::new(),
            Self::Sleep(time) => format!("[[sleep {}]] ", time.as_millis()),
            Self::Panic => "[[panic]] ".to_owned(),
            Self::Abort => "[[abort]] ".to_owned(),
            Self::Hang => "[[hang]] ".to_owned(),
        }
    }
}

/// How a client submits work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Submission {
    /// A job over REST, with an idempotency key. It starts at one gateway and may continue at the other.
    Rest {
        gateway: usize,
        lane: Lane,
        behaviour: Behaviour,
        has_callback: bool,
        cancel_after: Option<Duration>,
    },
    /// A job over NATS, published so many times under one message id.
    Direct {
        tenant: u64,
        lane: Lane,
        behaviour: Behaviour,
        copies: u64,
    },
    /// An upload with an idempotency key.
    Batch { gateway: usize, rows: u64 },
    /// A message that is no job.
    Malformed,
    /// A job whose text is too long.
    Oversized,
}

impl fmt::Display for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rest {
                gateway,
                lane,
                behaviour,
                has_callback,
                cancel_after,
            } => {
                write!(f, "rest api-{gateway} {lane} {behaviour:?}")?;
                if *has_callback {
                    f.write_str(" callback")?;
                }
                match cancel_after {
                    Some(after) => write!(f, " cancelled after {} ms", after.as_millis()),
                    None => Ok(()),
                }
            }
            Self::Direct {
                tenant,
                lane,
                behaviour,
                copies,
            } => write!(f, "direct tenant-{tenant} {lane} {behaviour:?} x{copies}"),
            Self::Batch { gateway, rows } => write!(f, "batch api-{gateway} {rows} rows"),
            Self::Malformed => f.write_str("malformed"),
            Self::Oversized => f.write_str("oversized"),
        }
    }
}

/// Something that begins at a time after the start of the run, and lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) begins: Duration,
    /// Zero for submissions.
    pub(super) lasts: Duration,
    pub(super) what: T,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) submissions: Vec<At<Submission>>,
    pub(super) faults: Vec<At<Fault>>,
}

impl Plan {
    /// Returns the plan of a run.
    pub(super) fn new(seed: u64, run: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(0x0100_0000_01b3) ^ run);
        let window = WINDOW.as_millis() as u64;
        let submissions = (0..SUBMISSIONS).map(|_| At {
            begins: random.duration(0, window),
            lasts: Duration::ZERO,
            what: submission(&mut random),
        });
        let mut submissions: Vec<_> = submissions.collect();
        let faults = (0..random.within(2, 5)).map(|_| At {
            begins: random.duration(0, window),
            lasts: random.duration(200, 4_000),
            what: fault(&mut random),
        });
        let mut faults: Vec<_> = faults.collect();
        submissions.sort_by_key(|submission| submission.begins);
        faults.sort_by_key(|fault| fault.begins);
        Self { submissions, faults }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for At { begins, lasts, what } in &self.faults {
            writeln!(
                f,
                "  {:>5} ms  {what} for {} ms",
                begins.as_millis(),
                lasts.as_millis()
            )?;
        }
        for At { begins, what, .. } in &self.submissions {
            writeln!(f, "  {:>5} ms  {what}", begins.as_millis())?;
        }
        Ok(())
    }
}

/// An endless mix of work without jobs that break the engine.
#[derive(Debug, Clone)]
pub(super) struct Load(Random);

impl Load {
    /// Returns the load of a seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }
}

impl Iterator for Load {
    type Item = Submission;

    fn next(&mut self) -> Option<Submission> {
        let random = &mut self.0;
        let gateway = random.within(0, 1) as usize;
        let lane = random.pick(Lane::ALL);
        let behaviour = match random.one_in(3) {
            true => Behaviour::Sleep(random.duration(50, 500)),
            false => Behaviour::Answer,
        };
        Some(match random.within(0, 99) {
            0..60 => Submission::Rest {
                gateway,
                lane,
                behaviour,
                has_callback: random.one_in(4),
                cancel_after: random.one_in(10).then(|| random.duration(0, 500)),
            },
            60..97 => Submission::Direct {
                tenant: random.within(0, 2),
                lane,
                behaviour,
                copies: random.within(1, 3),
            },
            _ => Submission::Batch {
                gateway,
                rows: random.within(1, 20),
            },
        })
    }
}

fn submission(random: &mut Random) -> Submission {
    let gateway = random.within(0, 1) as usize;
    let lane = random.pick(Lane::ALL);
    match random.within(0, 99) {
        0..60 => Submission::Rest {
            gateway,
            lane,
            // A gateway whose clock is ahead would give a job that hangs a deadline far away.
            behaviour: match behaviour(random) {
                Behaviour::Hang => Behaviour::Answer,
                other => other,
            },
            has_callback: random.one_in(4),
            cancel_after: random.one_in(8).then(|| random.duration(0, 2_000)),
        },
        60..90 => Submission::Direct {
            tenant: random.within(0, 2),
            lane,
            behaviour: behaviour(random),
            copies: random.within(1, 3),
        },
        90..94 => Submission::Batch {
            gateway,
            rows: random.within(1, 20),
        },
        94..97 => Submission::Malformed,
        _ => Submission::Oversized,
    }
}

fn behaviour(random: &mut Random) -> Behaviour {
    match random.within(0, 199) {
        0..110 => Behaviour::Answer,
        110..195 => Behaviour::Sleep(random.duration(50, 1_500)),
        195..197 => Behaviour::Panic,
        197..199 => Behaviour::Hang,
        // It takes ten crashes to give such a job up.
        _ => Behaviour::Abort,
    }
}

fn fault(random: &mut Random) -> Fault {
    let role = random.pick(&Target::ROLES);
    let any = match random.within(0, 9) {
        0..2 => Target::Nats(0),
        2 => Target::ClickHouse,
        _ => role,
    };
    match random.within(0, 99) {
        0..30 => Fault::Kill(any),
        30..45 => Fault::Stop(any),
        45..60 => Fault::Freeze(any),
        60..70 => Fault::Link(role, Link::Cut),
        70..80 => Fault::Link(role, Link::HalfOpen),
        80..90 => Fault::Link(role, Link::Slow(random.duration(20, 400))),
        _ => Fault::Clock(role, random.within(1, 7_200) as i64 - 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_number_determine_a_run() {
        assert_eq!(Plan::new(1, 2), Plan::new(1, 2));
        assert_ne!(Plan::new(1, 2), Plan::new(1, 3));
        assert_ne!(Plan::new(1, 2), Plan::new(2, 2));
        // A plan that was printed once must be the same for ever.
        let first = Plan::new(1, 0).to_string();
        assert_eq!(
            first.lines().next(),
            Some("     56 ms  half-open api-1 for 2676 ms")
        );
    }

    #[test]
    fn runs_mix_every_kind_of_fault_and_submission() {
        let mut seen = std::collections::HashSet::new();
        for run in 0..100 {
            let plan = Plan::new(7, run);
            assert!((2..=5).contains(&plan.faults.len()));
            for fault in &plan.faults {
                seen.insert(fault.what.to_string().split(' ').next().unwrap().to_owned());
            }
            for submission in &plan.submissions {
                let text = submission.what.to_string();
                seen.insert(text.split(' ').next().unwrap().to_owned());
                for word in ["Panic", "Hang", "Abort", "Sleep", "callback", "cancelled"] {
                    if text.contains(word) {
                        seen.insert(word.to_owned());
                    }
                }
            }
        }
        let kinds = "kill stop freeze cut half-open slow clock rest direct batch malformed oversized Panic Hang Abort \
                     Sleep callback cancelled";
        for kind in kinds.split_whitespace() {
            assert!(seen.contains(kind), "{kind}");
        }
    }
}
