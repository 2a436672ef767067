//! What must hold after a run: every accepted job has one result and one row, every unreadable message is a dead letter,
//! every webhook was delivered or buried, nothing is left in the queues, and no role keeps files open.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::PullConsumer;
use clickhouse::Row;
use precis_runtime::clock::Instant;
use precis_runtime::results::Results;
use precis_schemas::topology::{DEAD, JOBS, RESULTS, WEBHOOKS, clickhouse_sink_consumer};
use serde::Deserialize;

use super::clients::{AcceptedJob, Learned};
use super::plan::Target;
use super::testbed::Testbed;

/// How long the product may take to finish everything once the last fault has ended: ten deliveries of a job that ends
/// the process, after an ack wait each.
const PATIENCE: Duration = Duration::from_secs(240);
/// The same with the shipped ack waits.
const PATIENCE_WITH_SHIPPED_DEFAULTS: Duration = Duration::from_secs(900);
/// Open files of an idle role, with some to spare. It has about 15.
const MAX_OPEN_FILES: usize = 40;
/// How long a role may take to close files that it needs no more, such as idle connections.
const CLOSING: Duration = Duration::from_secs(60);
/// How often it is checked.
const CHECK: Duration = Duration::from_millis(200);

/// What was found after a run.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Accepted jobs without a result, a row or a text in it, and unreadable messages without a dead letter.
    pub(super) lost: u64,
    /// Jobs with several rows, and submissions or rows of uploads with several jobs.
    pub(super) doubled: u64,
    /// Messages left in `JOBS` and `WEBHOOKS`.
    pub(super) stranded: u64,
    /// Webhooks that were neither delivered nor buried.
    pub(super) webhooks_lost: u64,
    /// Roles that keep files open.
    pub(super) leaking: u64,
    /// How long the product took to finish everything.
    pub(super) took: Duration,
    /// What is wrong.
    pub(super) problems: Vec<String>,
}

#[derive(Debug, Row, Deserialize)]
struct Counted {
    name: String,
    count: u64,
}

/// Messages that are on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unfinished {
    jobs: u64,
    webhooks: u64,
    results: u64,
}

/// Waits until nothing is on its way, and checks a run.
///
/// # Errors
/// If the servers can't be asked.
pub(super) async fn verify(
    testbed: &Testbed,
    jetstream: &jetstream::Context,
    tag: &str,
    learned: &Learned,
    shipped_defaults: bool,
) -> anyhow::Result<Findings> {
    let jobs = learned.jobs.as_slice();
    let patience = match shipped_defaults {
        true => PATIENCE_WITH_SHIPPED_DEFAULTS,
        false => PATIENCE,
    };
    let mut findings = Findings::default();
    let begin = Instant::now();
    let left = wait_until_finished(jetstream, patience).await;
    findings.took = begin.elapsed();
    findings.stranded = left.map_or(0, |left| left.jobs + left.webhooks);
    if let Some(left) = left {
        findings
            .problems
            .push(format!("unfinished after {} s: {left:?}", patience.as_secs()));
    }
    let results = Results::open(jetstream).await?;
    let stored = rows(testbed, "prediction_versions WHERE true", jobs).await?;
    // What readers see: the last version of each.
    let visible = rows(testbed, "predictions WHERE true", jobs).await?;
    let without_text = rows(testbed, "predictions WHERE text_chars > 0 AND text = ''", jobs).await?;
    for job in jobs {
        let has_result = results.get_from_leader(&job.id).await?.is_some();
        let rows = |counted: &HashMap<String, u64>| counted.get(job.id.as_str()).copied().unwrap_or_default();
        let (stored, visible) = (rows(&stored), rows(&visible));
        if !has_result || visible == 0 {
            findings.lost += 1;
            findings
                .problems
                .push(format!("{} has {visible} rows; result: {has_result}", job.id));
        } else if stored > 1 || visible > 1 {
            findings.doubled += 1;
            findings
                .problems
                .push(format!("{} has {visible} rows, stored {stored} times", job.id));
        } else if without_text.contains_key(job.id.as_str()) {
            findings.lost += 1;
            findings
                .problems
                .push(format!("the row of {} has no text", job.id));
        }
    }
    for Counted { name, count } in jobs_by_submission(testbed, tag).await? {
        if count > 1 {
            findings.doubled += 1;
            findings
                .problems
                .push(format!("submission {name} has {count} jobs"));
        }
    }
    let missing: Vec<&AcceptedJob> = jobs
        .iter()
        .filter(|job| {
            job.webhook
                .as_ref()
                .is_some_and(|name| !testbed.receiver.accepted(name))
        })
        .collect();
    if !missing.is_empty() || !learned.unreadable.is_empty() {
        let letters = dead_letters(jetstream).await?;
        let is_buried = |part: &str| letters.iter().any(|letter| letter.contains(part));
        for job in missing.into_iter().filter(|job| !is_buried(job.id.as_str())) {
            findings.webhooks_lost += 1;
            findings
                .problems
                .push(format!("the webhook of {} is lost", job.id));
        }
        for body in learned.unreadable.iter().filter(|body| !is_buried(body)) {
            findings.lost += 1;
            findings
                .problems
                .push(format!("{body} is unreadable and has no dead letter"));
        }
    }
    for (target, files) in leaking(testbed).await {
        findings.leaking += 1;
        findings
            .problems
            .push(format!("{target} keeps {files} files open"));
    }
    Ok(findings)
}

/// Returns the roles that keep more files open than an idle one needs.
async fn leaking(testbed: &Testbed) -> Vec<(Target, usize)> {
    let deadline = Instant::now() + CLOSING;
    loop {
        let files = testbed.open_files().into_iter();
        let leaking: Vec<_> = files.filter(|(_, files)| *files > MAX_OPEN_FILES).collect();
        if leaking.is_empty() || Instant::now() >= deadline {
            return leaking;
        }
        tokio::time::sleep(CHECK).await;
    }
}

/// Returns what is left after `patience`, if anything.
async fn wait_until_finished(jetstream: &jetstream::Context, patience: Duration) -> Option<Unfinished> {
    let deadline = Instant::now() + patience;
    let mut last = None;
    while Instant::now() < deadline {
        // A server that restarts can't answer.
        if let Ok(unfinished) = unfinished(jetstream).await {
            if (unfinished.jobs, unfinished.webhooks, unfinished.results) == (0, 0, 0) {
                return None;
            }
            last = Some(unfinished);
        }
        tokio::time::sleep(CHECK).await;
    }
    last
}

async fn unfinished(jetstream: &jetstream::Context) -> Result<Unfinished, async_nats::Error> {
    let messages = async |name: &str| {
        let stream = jetstream.get_stream(name).await?;
        Ok::<_, async_nats::Error>(stream.cached_info().state.messages)
    };
    // A job announces its webhook and stores its result before it leaves the queue.
    let jobs = messages(JOBS).await?;
    let webhooks = messages(WEBHOOKS).await?;
    let sink = clickhouse_sink_consumer();
    let consumer: PullConsumer = jetstream.get_consumer_from_stream(sink.name, RESULTS).await?;
    let info = consumer.cached_info();
    Ok(Unfinished {
        jobs,
        webhooks,
        results: info.num_pending + info.num_ack_pending as u64,
    })
}

/// Returns the number of rows of each job in a source, which is a table and a condition. `prediction_versions` is never merged here, so it also has the
/// rows that a later one replaces.
async fn rows(testbed: &Testbed, source: &str, jobs: &[AcceptedJob]) -> anyhow::Result<HashMap<String, u64>> {
    let ids: HashSet<String> = jobs.iter().map(|job| format!("'{}'", job.id)).collect();
    let ids: Vec<String> = ids.into_iter().collect();
    let mut rows = HashMap::new();
    // A query has a maximum length.
    for ids in ids.chunks(1_000) {
        let ids = ids.join(", ");
        let sql = format!(
            "SELECT toString(job_id) AS name, count() AS count FROM {source} AND job_id IN ({ids}) GROUP BY name"
        );
        let counted = query(testbed, &sql).await?;
        rows.extend(counted.into_iter().map(|row| (row.name, row.count)));
    }
    Ok(rows)
}

async fn jobs_by_submission(testbed: &Testbed, tag: &str) -> anyhow::Result<Vec<Counted>> {
    query(
        testbed,
        &format!(
            "SELECT metadata['number'] AS name, uniqExact(job_id) AS count FROM prediction_versions \
             WHERE metadata['faults'] = '{tag}' GROUP BY name"
        ),
    )
    .await
}

async fn query(testbed: &Testbed, sql: &str) -> anyhow::Result<Vec<Counted>> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match testbed.clickhouse().query(sql).fetch_all::<Counted>().await {
            Ok(rows) => return Ok(rows),
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(CHECK).await,
        }
    }
}

/// Returns the bodies of all dead letters.
async fn dead_letters(jetstream: &jetstream::Context) -> anyhow::Result<Vec<String>> {
    let stream = jetstream.get_stream(DEAD).await?;
    let state = stream.cached_info().state.clone();
    let mut letters = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        if let Ok(message) = stream.get_raw_message(sequence).await {
            letters.push(String::from_utf8_lossy(&message.payload).into_owned());
        }
    }
    Ok(letters)
}
