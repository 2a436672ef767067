//! Queries and tables of drift.

use clickhouse::error::Result;
use clickhouse::{Client, Row};
use serde::{Deserialize, Serialize};

use super::divergence::BINS;

/// Watched metrics of a prediction, by column.
pub(super) const METRICS: [&str; 10] = [
    "text_chars",
    "summary_chars",
    "compression_ratio",
    "coverage",
    "novel_bigrams",
    "repetition_rate",
    "rouge1",
    "rouge2",
    "rougeL",
    "bleu",
];
/// Watched embeddings. Their metric is the cosine distance to the mean of the baseline.
pub(super) const EMBEDDINGS: [&str; 2] = ["text_embedding", "summary_embedding"];

/// Succeeded predictions of a model in a window.
const PREDICTIONS: &str = "FROM predictions
    WHERE outcome = 'succeeded' AND model = {model:String}
        AND finished_at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
        AND finished_at < fromUnixTimestamp64Milli({to:Int64}, 'UTC')";

/// A window in milliseconds since 1970: `from` inclusive, `to` exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from: i64,
    pub(super) to: i64,
}

/// A row of `drift_baselines`.
#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
pub(super) struct Baseline {
    pub(super) model: String,
    pub(super) metric: String,
    pub(super) window_from: i64,
    pub(super) window_to: i64,
    pub(super) rows: u64,
    pub(super) mean: f64,
    pub(super) deviation: f64,
    pub(super) edges: Vec<f64>,
    pub(super) shares: Vec<f64>,
    pub(super) centroid: Vec<f64>,
    pub(super) pinned_at: i64,
}

/// A row of `drift_days`. `day` counts from 1970.
#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
pub(super) struct DriftDay {
    pub(super) day: u16,
    pub(super) model: String,
    pub(super) metric: String,
    pub(super) rows: u64,
    pub(super) mean: f64,
    pub(super) deviation: f64,
    pub(super) shares: Vec<f64>,
    pub(super) psi: f64,
    pub(super) mean_shift: f64,
    pub(super) alert: bool,
    pub(super) computed_at: i64,
}

/// Row count, mean, deviation and deciles of a window.
#[derive(Debug, Clone, Row, Deserialize)]
pub(super) struct WindowStats {
    pub(super) rows: u64,
    pub(super) mean: f64,
    pub(super) deviation: f64,
    pub(super) edges: Vec<f64>,
}

/// A mean vector.
#[derive(Debug, Clone, Row, Deserialize)]
struct Centroid {
    centroid: Vec<f64>,
}

/// A day of a window, in the bins of a baseline.
#[derive(Debug, Clone, Row, Deserialize)]
pub(super) struct BinnedDay {
    pub(super) day: u16,
    pub(super) rows: u64,
    pub(super) mean: f64,
    pub(super) deviation: f64,
    pub(super) counts: Vec<u64>,
}

/// Returns a query for the metric of each prediction, as `x`.
fn numbers(metric: &str) -> String {
    if EMBEDDINGS.contains(&metric) {
        format!(
            "SELECT finished_at, toFloat64(cosineDistance({metric}, {{centroid:Array(Float64)}})) AS x {PREDICTIONS}
                AND length({metric}) = length({{centroid:Array(Float64)}})"
        )
    } else {
        format!(
            "SELECT finished_at, assumeNotNull(toFloat64({metric})) AS x {PREDICTIONS} AND {metric} IS NOT NULL
                AND length({{centroid:Array(Float64)}}) = 0"
        )
    }
}

/// Returns every model with the day of its first prediction.
pub(super) async fn models(client: &Client) -> Result<Vec<(String, u16)>> {
    let sql = "SELECT model, toUInt16(min(toDate(finished_at))) FROM prediction_versions
        WHERE model != '' AND outcome = 'succeeded' GROUP BY model ORDER BY model";
    client.query_raw(sql).fetch_all().await
}

/// Returns the number of predictions with this metric on each day of a window that has any, in order. Days count from
/// 1970.
pub(super) async fn rows_of_days(
    client: &Client,
    metric: &str,
    model: &str,
    window: Window,
) -> Result<Vec<(u16, u64)>> {
    let present = if EMBEDDINGS.contains(&metric) {
        format!("length({metric}) > 0")
    } else {
        format!("{metric} IS NOT NULL AND isFinite(assumeNotNull(toFloat64({metric})))")
    };
    let sql = format!(
        "SELECT toUInt16(toDate(finished_at)) AS day, count() {PREDICTIONS} AND {present} GROUP BY day ORDER BY day"
    );
    let query = client.query_raw(&sql).param("model", model);
    let query = query.param("from", window.from).param("to", window.to);
    query.fetch_all().await
}

/// Returns the mean vector of an embedding in a window, or an empty one without data.
pub(super) async fn centroid(client: &Client, metric: &str, model: &str, window: Window) -> Result<Vec<f64>> {
    // Models of different widths may have served under the same name. The widest counts.
    let sql = format!(
        "SELECT avgForEach(e) AS centroid FROM (SELECT arrayMap(x -> toFloat64(x), {metric}) AS e {PREDICTIONS} AND length(e) > 0)
         WHERE length(e) = (SELECT max(length({metric})) {PREDICTIONS})"
    );
    let query = client.query_raw(&sql).param("model", model);
    let query = query.param("from", window.from).param("to", window.to);
    Ok(query.fetch_one::<Centroid>().await?.centroid)
}

/// Returns row count, mean, deviation and deciles of a metric in a window.
pub(super) async fn window_stats(
    client: &Client,
    metric: &str,
    model: &str,
    window: Window,
    centroid: &[f64],
) -> Result<WindowStats> {
    let levels: Vec<String> = (1..BINS)
        .map(|bin| format!("{}", bin as f64 / BINS as f64))
        .collect();
    let sql = format!(
        "SELECT count() AS rows, if(rows > 0, avg(x), 0) AS mean, if(rows > 1, stddevSampStable(x), 0) AS deviation,
            if(rows > 0, quantilesExact({})(x), emptyArrayFloat64()) AS edges
         FROM ({}) WHERE isFinite(x)",
        levels.join(", "),
        numbers(metric)
    );
    let query = client
        .query_raw(&sql)
        .param("model", model)
        .param("centroid", centroid);
    query
        .param("from", window.from)
        .param("to", window.to)
        .fetch_one()
        .await
}

/// Returns the days of a window, in the bins of a baseline.
pub(super) async fn binned_days(
    client: &Client,
    baseline: &Baseline,
    window: Window,
) -> Result<Vec<BinnedDay>> {
    let sql = format!(
        "SELECT toUInt16(toDate(finished_at)) AS day, count() AS rows, avg(x) AS mean,
            if(rows > 1, stddevSampStable(x), 0) AS deviation,
            sumForEach(arrayMap(
                bin -> toUInt64(arrayCount(edge -> x > edge, {{edges:Array(Float64)}}) = bin), range({BINS})
            )) AS counts
         FROM ({}) WHERE isFinite(x)
         GROUP BY day ORDER BY day",
        numbers(&baseline.metric)
    );
    let query = client
        .query_raw(&sql)
        .param("model", &baseline.model)
        .param("centroid", &baseline.centroid)
        .param("edges", &baseline.edges);
    query
        .param("from", window.from)
        .param("to", window.to)
        .fetch_all()
        .await
}

/// Returns every baseline.
pub(super) async fn baselines(client: &Client) -> Result<Vec<Baseline>> {
    client
        .query("SELECT ?fields FROM drift_baselines FINAL ORDER BY model, metric")
        .fetch_all()
        .await
}

/// Inserts rows into one of the two tables.
pub(super) async fn insert<T>(client: &Client, table: &str, rows: &[T]) -> Result<()>
where
    T: clickhouse::RowOwned + clickhouse::RowWrite,
{
    if rows.is_empty() {
        return Ok(());
    }
    let mut insert = client.insert::<T>(table).await?;
    for row in rows {
        insert.write(row).await?;
    }
    insert.end().await
}
