//! Bytes of a row on disk, and what other codecs would make of the columns that matter.

use std::collections::BTreeMap;
use tokio::time::Instant;

use clickhouse::{Client, Row};
use serde::{Deserialize, Serialize};

use super::super::clock::median;

/// Columns that are alike, by the beginnings or ends of their names; the first that fits counts.
const GROUPS: [(&str, &[&str]); 8] = [
    ("texts", &["text", "summary", "reference"]),
    ("embeddings", &["text_embedding", "summary_embedding"]),
    (
        "identities",
        &[
            "job_id",
            "version",
            "batch_id",
            "batch_index",
            "job_sequence",
            "result_sequence",
        ],
    ),
    ("moments", &["_at"]),
    ("times", &["_ms"]),
    ("scores", &["rouge", "bleu"]),
    ("sizes", &["_chars", "_tokens", "batch_size", "padding_ratio"]),
    (
        "signals",
        &[
            "_words",
            "compression_ratio",
            "coverage",
            "density",
            "novel_",
            "repetition_rate",
            "is_",
        ],
    ),
];

/// What each column may be kept with: the first is what the schema has.
const OF_TEXTS: [(&str, &[&str]); 3] = [
    ("job_id", &["ZSTD(1)", "ZSTD(3)", "LZ4", "NONE"]),
    ("text", &["ZSTD(3)", "ZSTD(1)", "ZSTD(6)", "LZ4"]),
    ("summary", &["ZSTD(3)", "ZSTD(1)", "ZSTD(6)", "LZ4"]),
];
const OF_NUMBERS: [(&str, &[&str]); 8] = [
    (
        "finished_at",
        &["Delta, ZSTD(1)", "DoubleDelta, ZSTD(1)", "Delta, LZ4", "ZSTD(1)"],
    ),
    (
        "submitted_at",
        &["Delta, ZSTD(1)", "DoubleDelta, ZSTD(1)", "Delta, LZ4", "ZSTD(1)"],
    ),
    (
        "result_sequence",
        &[
            "Delta, ZSTD(1)",
            "DoubleDelta, ZSTD(1)",
            "T64, ZSTD(1)",
            "Delta, LZ4",
        ],
    ),
    (
        "end_to_end_ms",
        &["ZSTD(1)", "ZSTD(3)", "Gorilla, ZSTD(1)", "FPC, ZSTD(1)", "LZ4"],
    ),
    (
        "text_chars",
        &["ZSTD(1)", "ZSTD(3)", "T64, ZSTD(1)", "T64, LZ4", "LZ4"],
    ),
    (
        "summary_tokens",
        &["ZSTD(1)", "ZSTD(3)", "T64, ZSTD(1)", "T64, LZ4", "LZ4"],
    ),
    ("rouge1", &["ZSTD(1)", "ZSTD(3)", "Gorilla, ZSTD(1)", "LZ4"]),
    ("coverage", &["ZSTD(1)", "ZSTD(3)", "Gorilla, ZSTD(1)", "LZ4"]),
];

/// Rows that codecs are tried on, at most.
const TRIED: u64 = 1_000_000;
/// How often each is read.
const READS: usize = 5;

#[derive(Debug, Row, Deserialize)]
struct Column {
    name: String,
    compressed: u64,
    uncompressed: u64,
}

/// Bytes of a row in a group of columns.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Bytes {
    /// On disk.
    pub(super) compressed: f64,
    /// In memory.
    pub(super) uncompressed: f64,
}

/// What a codec makes of a column.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Tried {
    /// Bytes of a value on disk.
    pub(super) bytes: f64,
    /// Nanoseconds in which a value is read, by all threads together.
    pub(super) read_ns: f64,
}

/// Codecs by column.
pub(super) type Codecs = BTreeMap<&'static str, BTreeMap<&'static str, Tried>>;

/// Bytes of a row by group of columns.
pub(super) async fn bytes_per_row(client: &Client) -> anyhow::Result<BTreeMap<&'static str, Bytes>> {
    client
        .query_raw("OPTIMIZE TABLE prediction_versions FINAL")
        .execute()
        .await?;
    let rows = count(client, "prediction_versions").await?;
    let mut groups: BTreeMap<&'static str, Bytes> = BTreeMap::new();
    for column in columns(client, "prediction_versions").await? {
        let bytes = groups.entry(group_of(&column.name)).or_default();
        bytes.compressed += column.compressed as f64 / rows;
        bytes.uncompressed += column.uncompressed as f64 / rows;
    }
    Ok(groups)
}

fn group_of(column: &str) -> &'static str {
    let fits = |part: &&&str| match part.starts_with('_') {
        true => column.ends_with(**part),
        false => column == **part || part.ends_with(['_', '1', 'e', 'u']) && column.starts_with(**part),
    };
    // Names that begin as others do stand whole in their groups.
    let whole = GROUPS.iter().find(|(_, parts)| parts.contains(&column));
    let found = whole.or_else(|| {
        GROUPS[3..]
            .iter()
            .find(|(_, parts)| parts.iter().any(|part| fits(&part)))
    });
    found.map_or("others", |(name, _)| name)
}

/// Codecs of texts, on what came through the stream.
pub(super) async fn of_texts(client: &Client) -> anyhow::Result<Codecs> {
    tried(client, &OF_TEXTS).await
}

/// Codecs of numbers, on what was made.
pub(super) async fn of_numbers(client: &Client) -> anyhow::Result<Codecs> {
    tried(client, &OF_NUMBERS).await
}

async fn tried(client: &Client, all: &[(&'static str, &'static [&'static str])]) -> anyhow::Result<Codecs> {
    let mut found = Codecs::new();
    for (column, codecs) in all {
        let tried = try_codecs(client, column, codecs).await?;
        found.insert(*column, tried);
    }
    Ok(found)
}

/// Copies of a column side by side, in the order of the table.
async fn try_codecs(
    client: &Client,
    column: &str,
    codecs: &'static [&'static str],
) -> anyhow::Result<BTreeMap<&'static str, Tried>> {
    let sql = format!(
        "SELECT type FROM system.columns
         WHERE database = currentDatabase() AND table = 'prediction_versions' AND name = '{column}'"
    );
    let kind: String = client.query_raw(&sql).fetch_one().await?;
    let copies: Vec<String> = (0..codecs.len()).map(|index| format!("c{index}")).collect();
    let definitions: Vec<String> = copies
        .iter()
        .zip(codecs)
        .map(|(name, codec)| format!("{name} {kind} CODEC({codec})"))
        .collect();
    let values = vec![column; copies.len()].join(", ");
    let fill = format!(
        "INSERT INTO codecs ({}) SELECT {values} FROM prediction_versions ORDER BY finished_at, job_id LIMIT {TRIED}",
        copies.join(", ")
    );
    let create = format!(
        "CREATE TABLE codecs ({}) ENGINE = MergeTree ORDER BY tuple()
         SETTINGS min_bytes_for_wide_part = 0",
        definitions.join(", ")
    );
    for sql in [
        "DROP TABLE IF EXISTS codecs",
        &create,
        &fill,
        "OPTIMIZE TABLE codecs FINAL",
    ] {
        let query = client.query_raw(sql).with_setting("allow_suspicious_codecs", "1");
        query.execute().await?;
    }
    let rows = count(client, "codecs").await?;
    let mut read = vec![Vec::new(); copies.len()];
    for _ in 0..READS {
        for (name, spent) in copies.iter().zip(&mut read) {
            let sql = format!("SELECT count() FROM codecs WHERE NOT ignore({name})");
            let begin = Instant::now();
            let _rows: u64 = client.query_raw(&sql).fetch_one().await?;
            spent.push(1e9 * begin.elapsed().as_secs_f64() / rows);
        }
    }
    let sizes = columns(client, "codecs").await?;
    let tried = sizes.iter().zip(codecs).zip(read).map(|((column, codec), read)| {
        let tried = Tried {
            bytes: column.compressed as f64 / rows,
            read_ns: median(read),
        };
        (*codec, tried)
    });
    Ok(tried.collect())
}

/// The columns of a table with their sizes, in order.
async fn columns(client: &Client, table: &str) -> anyhow::Result<Vec<Column>> {
    let sql = format!(
        "SELECT name, data_compressed_bytes AS compressed, data_uncompressed_bytes AS uncompressed
         FROM system.columns WHERE database = currentDatabase() AND table = '{table}' ORDER BY position"
    );
    Ok(client.query_raw(&sql).fetch_all().await?)
}

async fn count(client: &Client, table: &str) -> anyhow::Result<f64> {
    let count: u64 = client
        .query_raw(&format!("SELECT count() FROM {table}"))
        .fetch_one()
        .await?;
    Ok(count.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_in_its_group() {
        for (column, group) in [
            ("text", "texts"),
            ("text_chars", "sizes"),
            ("text_words", "signals"),
            ("text_policy", "others"),
            ("summary_embedding", "embeddings"),
            ("reference_at", "moments"),
            ("rougeL_precision", "scores"),
            ("novel_bigrams", "signals"),
            ("is_empty", "signals"),
            ("batch_size", "sizes"),
            ("batch_wait_ms", "times"),
            ("job_sequence", "identities"),
            ("model", "others"),
        ] {
            assert_eq!(group_of(column), group, "{column}");
        }
    }
}
