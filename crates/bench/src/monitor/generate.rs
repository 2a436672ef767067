//! Fills ClickHouse with many synthetic predictions.
//!
//! ClickHouse generates them in SQL and inserts them into the monitor's table, so the rollups fill as usual.

use std::time::Duration;

use anyhow::ensure;
use clickhouse::Client;
use precis_runtime::clock::{self, Instant};

use crate::samples::articles;

/// Maximum number of days to spread predictions over. The schema keeps texts for 30.
const MAX_DAYS: u64 = 29;
/// Predictions per day, up to that maximum.
const PER_DAY: u64 = 345_000;
/// Predictions per `INSERT`.
const BLOCK: u64 = 200_000;
/// Rollup tables, finest first.
const ROLLUPS: [&str; 3] = ["prediction_minutes", "prediction_hours", "prediction_days"];
/// Maximum wait for the rollups.
const TIMEOUT: Duration = Duration::from_secs(3_600);

/// Inserts predictions `{begin}` to `{begin} + {count}` of `{total}`.
///
/// Random numbers are hashes of the row number, so every run inserts the same values. Times have a clock's resolution,
/// scores are ratios of small integers, and texts are substrings of the sample articles.
const PREDICTIONS: &str = "INSERT INTO prediction_versions
(
    job_id, version, job_sequence, result_sequence, submitted_at, started_at, finished_at, tenant, channel, task, lane,
    outcome, error_code, served_as, model, revision, worker, device, attempt, queue_ms, batch_wait_ms, tokenize_ms,
    encode_ms, decode_ms, publish_ms, end_to_end_ms, text_chars, text_tokens, truncated_tokens, summary_chars,
    summary_tokens, reference_chars, batch_size, padding_ratio, rouge1, rouge2, rougeL, rougeLsum, bleu, text_words,
    summary_words, compression_ratio, coverage, density, novel_bigrams, repetition_rate, is_empty, is_truncated, params,
    text_policy, text, summary, reference
)
WITH
    {articles:String} AS articles,
    (salt, bound) -> cityHash64(number, salt) % bound AS below,
    (salt, mean) -> round(-log((below(salt, 1000000000) + 1) / 1000000000) * mean, 6) AS ms,
    below(1, 40) = 0 AS failed,
    NOT failed AND below(2, 3) = 0 AS referenced,
    (salt, of) -> if(referenced, 2 * below(salt, of) / (of + 20 + below(salt + 1, 20)), NULL) AS score,
    {from:Int64} + intDiv(number * {span:Int64}, {total:UInt64}) + toInt64(below(3, 1000)) AS finished_ms,
    ms(10, 400) AS queue,
    ms(11, 15) AS batch_wait,
    ms(12, 0.4) AS tokenize,
    ms(13, 30) AS encode,
    ms(14, 120) AS decode,
    ms(15, 1.5) AS publish,
    queue + batch_wait + tokenize + encode + decode AS total,
    800 + below(20, 4000) AS chars,
    if(failed, 0, 60 + below(21, 140)) AS chars_of_summary,
    if(referenced, 60 + below(22, 200), 0) AS chars_of_reference
SELECT
    concat(leftPad(lower(hex(finished_ms)), 12, '0'), leftPad(lower(hex(cityHash64(number, 30))), 20, '0')),
    0,
    number + 1,
    number + 1,
    fromUnixTimestamp64Milli(toInt64(finished_ms - total), 'UTC'),
    fromUnixTimestamp64Milli(toInt64(finished_ms - total + queue), 'UTC'),
    fromUnixTimestamp64Milli(toInt64(finished_ms), 'UTC'),
    if(below(40, 10) = 0, 'acme', 'public'),
    ['api', 'api', 'api', 'batch', 'local', 'mlflow'][1 + below(41, 6)],
    'summarize',
    if(below(42, 5) = 0, 'bulk', 'normal'),
    if(failed, 'failed', 'succeeded'),
    if(failed, if(below(43, 3) = 0, 'deadline_exceeded', 'inference_failed'), ''),
    'default',
    if(below(44, 4) = 0, 'google/flan-t5-small', 'precis-mini'),
    if(below(44, 4) = 0, '0fc9ddf78a1e', '5f3c1a2b9d8e'),
    concat('worker-', toString(below(45, 4))),
    'cpu',
    1 + (below(46, 200) = 0),
    queue, batch_wait, tokenize, encode, decode, publish, total + publish,
    chars,
    least(512, intDiv(chars, 4)),
    greatest(0, toInt64(intDiv(chars, 4)) - 512),
    chars_of_summary,
    intDiv(chars_of_summary, 4),
    chars_of_reference,
    1 + below(47, 16),
    below(48, 100) / 256,
    score(50, 20), score(52, 12), score(54, 18), score(56, 18), score(58, 20) * 60,
    if(failed, NULL, intDiv(chars, 6)),
    if(failed, NULL, intDiv(chars_of_summary, 6)),
    if(failed, NULL, chars / greatest(1, chars_of_summary)),
    if(failed, NULL, (10 + below(60, 11)) / 20),
    if(failed, NULL, (20 + below(61, 100)) / 20),
    if(failed, NULL, below(62, 12) / 20),
    if(failed, NULL, below(63, 3) / 20),
    if(failed, NULL, false),
    if(failed, NULL, below(64, 30) = 0),
    '{\"num_beams\":4,\"first_sentence\":true}',
    'full',
    substring(articles, 1 + below(70, 20000), 400),
    if(failed, '', substring(articles, 1 + below(71, 20000), toUInt64(chars_of_summary))),
    if(referenced, substring(articles, 1 + below(72, 20000), toUInt64(chars_of_reference)), '')
FROM numbers({begin:UInt64}, {count:UInt64})";

/// Returns the number of days that `rows` predictions are spread over.
pub(super) fn days(rows: u64) -> u64 {
    (rows / PER_DAY).clamp(1, MAX_DAYS)
}

/// Replaces the stored predictions by `rows` synthetic ones and waits for the rollups.
///
/// Returns the seconds from the last insert until the rollups are complete.
pub(super) async fn fill(client: &Client, rows: u64) -> anyhow::Result<f64> {
    for table in ["prediction_versions"]
        .into_iter()
        .chain(ROLLUPS)
        .chain(["dirty_minutes"])
    {
        let sql = format!("TRUNCATE TABLE {table}");
        client.query_raw(&sql).execute().await?;
    }
    insert(client, rows).await?;
    let begin = Instant::now();
    loop {
        let counted: u64 = client
            .query_raw("SELECT sum(predictions) FROM prediction_days FINAL")
            .fetch_one()
            .await?;
        if counted == rows {
            break;
        }
        ensure!(
            counted < rows,
            "the rollups count {counted} predictions instead of {rows}"
        );
        ensure!(
            begin.elapsed() < TIMEOUT,
            "the rollups are incomplete after {} s: {counted} of {rows} predictions",
            TIMEOUT.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let seconds = begin.elapsed().as_secs_f64();
    wait_for_last_refresh(client).await?;
    // Rows that are days old have been merged. These were all refreshed within minutes, so merge them now.
    for table in ROLLUPS.into_iter().chain(["prediction_versions"]) {
        let sql = format!("OPTIMIZE TABLE {table} FINAL");
        client.query_raw(&sql).execute().await?;
    }
    Ok(seconds)
}

async fn insert(client: &Client, rows: u64) -> anyhow::Result<()> {
    // SQL cuts the articles at arbitrary bytes: ASCII text stays valid.
    let articles: String = articles()?
        .iter()
        .flat_map(|sample| sample.article.chars().chain(['\n']))
        .filter(char::is_ascii)
        .collect();
    let span = days(rows) * 86_400_000;
    let from = clock::now().as_millisecond() - span as i64 - 2_000;
    let mut begin = 0;
    while begin < rows {
        let count = BLOCK.min(rows - begin);
        let query = client
            .query_raw(PREDICTIONS)
            .param("articles", &articles)
            .param("from", from)
            .param("span", span)
            .param("total", rows)
            .param("begin", begin)
            .param("count", count)
            .with_setting("max_partitions_per_insert_block", "0");
        query.execute().await?;
        begin += count;
        if begin.is_multiple_of(10 * BLOCK) {
            eprintln!("queries: inserted {begin} of {rows} predictions");
        }
    }
    Ok(())
}

/// Waits until no rollup is refreshed any more: a complete rollup is refreshed for another minute.
async fn wait_for_last_refresh(client: &Client) -> anyhow::Result<()> {
    let begin = Instant::now();
    for table in ROLLUPS {
        let sql = format!("SELECT max(version) < now64(3) - INTERVAL 25 SECOND FROM {table}");
        while !client.query_raw(&sql).fetch_one::<bool>().await? {
            ensure!(begin.elapsed() < TIMEOUT, "{table} is still being refreshed");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    Ok(())
}
