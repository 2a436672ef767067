//! Bytes per row by group of columns, and sizes and read times of the largest columns under alternative codecs.

use std::collections::BTreeMap;

use clickhouse::{Client, Row};
use precis_runtime::clock::Instant;
use serde::{Deserialize, Serialize};

use crate::stats::median;

/// Groups of columns, by full names, prefixes or suffixes. The first match counts.
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
            "trace_id",
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

/// Codecs to try per column. The first is the schema's.
const TEXT_CODECS: [(&str, &[&str]); 3] = [
    ("job_id", &["ZSTD(1)", "ZSTD(3)", "LZ4", "NONE"]),
    ("text", &["ZSTD(3)", "ZSTD(1)", "ZSTD(6)", "LZ4"]),
    ("summary", &["ZSTD(3)", "ZSTD(1)", "ZSTD(6)", "LZ4"]),
];
const NUMBER_CODECS: [(&str, &[&str]); 8] = [
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

/// Maximum number of rows to try codecs on.
const MAX_ROWS: u64 = 1_000_000;
/// Reads per codec.
const READS: usize = 5;

#[derive(Debug, Row, Deserialize)]
struct ColumnSize {
    name: String,
    compressed: u64,
    uncompressed: u64,
}

/// Bytes per row of a group of columns.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct BytesPerRow {
    /// On disk.
    pub(super) compressed: f64,
    /// In memory.
    pub(super) uncompressed: f64,
}

/// Cost of a codec on a column.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct CodecFigures {
    /// Bytes per value on disk.
    pub(super) bytes: f64,
    /// Nanoseconds to read a value, with all threads together.
    pub(super) read_ns: f64,
}

/// Figures by column and codec.
pub(super) type Codecs = BTreeMap<&'static str, BTreeMap<&'static str, CodecFigures>>;

/// Returns the bytes per row by group of columns.
pub(super) async fn bytes_per_row(client: &Client) -> anyhow::Result<BTreeMap<&'static str, BytesPerRow>> {
    client
        .query_raw("OPTIMIZE TABLE prediction_versions FINAL")
        .execute()
        .await?;
    let rows = row_count(client, "prediction_versions").await?;
    let mut groups: BTreeMap<&'static str, BytesPerRow> = BTreeMap::new();
    for column in column_sizes(client, "prediction_versions").await? {
        let bytes = groups.entry(group_of(&column.name)).or_default();
        bytes.compressed += column.compressed as f64 / rows;
        bytes.uncompressed += column.uncompressed as f64 / rows;
    }
    Ok(groups)
}

fn group_of(column: &str) -> &'static str {
    let matches = |part: &&&str| match part.starts_with('_') {
        true => column.ends_with(**part),
        false => column == **part || part.ends_with(['_', '1', 'e', 'u']) && column.starts_with(**part),
    };
    // Full names win: `text` is also a prefix of `text_chars`.
    let whole = GROUPS.iter().find(|(_, parts)| parts.contains(&column));
    let found = whole.or_else(|| {
        GROUPS[3..]
            .iter()
            .find(|(_, parts)| parts.iter().any(|part| matches(&part)))
    });
    found.map_or("others", |(name, _)| name)
}

/// Tries codecs for text columns, on results from the stream.
pub(super) async fn text_codecs(client: &Client) -> anyhow::Result<Codecs> {
    try_columns(client, &TEXT_CODECS).await
}

/// Tries codecs for numeric columns, on generated predictions.
pub(super) async fn number_codecs(client: &Client) -> anyhow::Result<Codecs> {
    try_columns(client, &NUMBER_CODECS).await
}

async fn try_columns(
    client: &Client,
    columns: &[(&'static str, &'static [&'static str])],
) -> anyhow::Result<Codecs> {
    let mut found = Codecs::new();
    for (column, codecs) in columns {
        let figures = try_codecs(client, column, codecs).await?;
        found.insert(*column, figures);
    }
    Ok(found)
}

/// Copies a column once per codec into one table, in the original order, and measures each copy.
async fn try_codecs(
    client: &Client,
    column: &str,
    codecs: &'static [&'static str],
) -> anyhow::Result<BTreeMap<&'static str, CodecFigures>> {
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
        "INSERT INTO codecs ({}) SELECT {values} FROM prediction_versions ORDER BY finished_at, job_id LIMIT {MAX_ROWS}",
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
    let rows = row_count(client, "codecs").await?;
    let mut reads = vec![Vec::new(); copies.len()];
    for _ in 0..READS {
        for (name, nanoseconds) in copies.iter().zip(&mut reads) {
            let sql = format!("SELECT count() FROM codecs WHERE NOT ignore({name})");
            let begin = Instant::now();
            let _rows: u64 = client.query_raw(&sql).fetch_one().await?;
            nanoseconds.push(1e9 * begin.elapsed().as_secs_f64() / rows);
        }
    }
    let sizes = column_sizes(client, "codecs").await?;
    let figures = sizes
        .iter()
        .zip(codecs)
        .zip(reads)
        .map(|((column, codec), reads)| {
            let figures = CodecFigures {
                bytes: column.compressed as f64 / rows,
                read_ns: median(reads),
            };
            (*codec, figures)
        });
    Ok(figures.collect())
}

/// Returns a table's columns with their sizes, in the table's order.
async fn column_sizes(client: &Client, table: &str) -> anyhow::Result<Vec<ColumnSize>> {
    let sql = format!(
        "SELECT name, data_compressed_bytes AS compressed, data_uncompressed_bytes AS uncompressed
         FROM system.columns WHERE database = currentDatabase() AND table = '{table}' ORDER BY position"
    );
    Ok(client.query_raw(&sql).fetch_all().await?)
}

async fn row_count(client: &Client, table: &str) -> anyhow::Result<f64> {
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
    fn columns_are_grouped_by_name() {
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
