//! Reading and writing through the unmodified `clickhouse` crate.

use clickhouse::sql::Identifier;
use clickhouse::{Client, Compression, Row};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::harness::client;

#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
struct Sample {
    #[serde(with = "clickhouse::serde::uuid")]
    id: Uuid,
    at: i64,
    model: String,
    text: String,
    tokens: u32,
    score: Option<f64>,
    vector: Vec<f32>,
}

const SAMPLES: &str = "CREATE TABLE samples (id UUID, at DateTime64(3, 'UTC'), model LowCardinality(String), \
     text String CODEC(ZSTD(1)), tokens UInt32, score Nullable(Float64), vector Array(Float32)) \
     ENGINE = MergeTree PARTITION BY toYYYYMM(at) ORDER BY (model, at, id) \
     SETTINGS non_replicated_deduplication_window = 100";

fn sample(number: u32) -> Sample {
    Sample {
        id: Uuid::from_u128(u128::from(number)),
        at: 1_790_000_000_000 + i64::from(number),
        model: "t5".to_owned(),
        text: format!("text {number} \u{1F4F0} with 'quotes' and \0 bytes"),
        tokens: number,
        score: number.is_multiple_of(2).then_some(0.5),
        vector: vec![0.25; 3],
    }
}

async fn insert(client: &Client, rows: &[Sample]) -> clickhouse::error::Result<()> {
    let mut insert = client.insert::<Sample>("samples").await?;
    for row in rows {
        insert.write(row).await?;
    }
    insert.end().await
}

async fn count(client: &Client, table: &str) -> u64 {
    client
        .query("SELECT count() FROM ?")
        .bind(Identifier(table))
        .fetch_one()
        .await
        .unwrap()
}

#[tokio::test]
async fn rows_round_trip() {
    let Some(client) = client("round_trip").await else {
        return;
    };
    client.query(SAMPLES).execute().await.unwrap();
    let rows: Vec<Sample> = (0..500).map(sample).collect();
    for compression in [Compression::Lz4, Compression::None] {
        for validation in [true, false] {
            let client = client
                .clone()
                .with_compression(compression)
                .with_validation(validation);
            client.query("TRUNCATE TABLE samples").execute().await.unwrap();
            insert(&client, &rows).await.unwrap();
            let read: Vec<Sample> = client
                .query("SELECT ?fields FROM samples ORDER BY tokens")
                .fetch_all()
                .await
                .unwrap();
            assert_eq!(read, rows, "{compression:?}, validation {validation}");
        }
    }
}

#[tokio::test]
async fn long_result_has_no_repeated_headers() {
    let Some(client) = client("long_result").await else {
        return;
    };
    for validation in [true, false] {
        let mut cursor = client
            .clone()
            .with_validation(validation)
            .query("SELECT number AS n, toString(number) AS s FROM numbers(400000)")
            .fetch::<(u64, String)>()
            .unwrap();
        let mut expected = 0;
        while let Some((number, text)) = cursor.next().await.unwrap() {
            assert_eq!((number, text), (expected, expected.to_string()));
            expected += 1;
        }
        assert_eq!(expected, 400_000);
    }
}

#[tokio::test]
async fn long_insert_is_complete() {
    let Some(client) = client("long_insert").await else {
        return;
    };
    client.query(SAMPLES).execute().await.unwrap();
    let rows: Vec<Sample> = (0..120_000).map(sample).collect();
    insert(&client, &rows).await.unwrap();
    let sums: (u64, u64) = client
        .query("SELECT count(), sum(tokens) FROM samples")
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(sums, (120_000, 120_000 * 119_999 / 2));
}

#[tokio::test]
async fn sequential_and_concurrent_inserts_are_complete() {
    let Some(client) = client("batches").await else {
        return;
    };
    client.query(SAMPLES).execute().await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let client = client.clone();
        writers.spawn(async move {
            for batch in 0..5 {
                let start = writer * 1000 + batch * 100;
                let rows: Vec<Sample> = (start..start + 100).map(sample).collect();
                insert(&client, &rows).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    assert_eq!(count(&client, "samples").await, 2000);
}

#[tokio::test]
async fn dropped_insert_writes_nothing() {
    let Some(client) = client("dropped").await else {
        return;
    };
    client.query(SAMPLES).execute().await.unwrap();
    for compression in [Compression::Lz4, Compression::None] {
        let client = client.clone().with_compression(compression);
        let mut insert = client.insert::<Sample>("samples").await.unwrap();
        for number in 0..50_000 {
            insert.write(&sample(number)).await.unwrap();
        }
        drop(insert);
    }
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(count(&client, "samples").await, 0);
    insert(&client, &[sample(1)]).await.unwrap();
    assert_eq!(count(&client, "samples").await, 1);
}

#[tokio::test]
async fn deduplication_token_inserts_once() {
    let Some(client) = client("tokens").await else {
        return;
    };
    client.query(SAMPLES).execute().await.unwrap();
    for (token, rows) in [
        ("a", 0..10),
        ("a", 0..10),
        ("b", 0..10),
        ("b", 5..15),
        ("c", 20..21),
    ] {
        let client = client.clone().with_setting("insert_deduplication_token", token);
        insert(&client, &rows.map(sample).collect::<Vec<_>>())
            .await
            .unwrap();
    }
    assert_eq!(count(&client, "samples").await, 21);
}

#[tokio::test]
async fn ddl_views_and_statements_work() {
    let Some(client) = client("statements").await else {
        return;
    };
    for statement in [
        "CREATE TABLE events (model LowCardinality(String), at DateTime, ms Float64) ENGINE = MergeTree ORDER BY at TTL at + INTERVAL 30 DAY",
        "CREATE TABLE hourly (hour DateTime, model LowCardinality(String), n SimpleAggregateFunction(sum, UInt64), \
         q AggregateFunction(quantilesTDigest(0.5, 0.99), Float64)) ENGINE = AggregatingMergeTree ORDER BY (model, hour)",
        "CREATE MATERIALIZED VIEW hourly_view TO hourly AS SELECT toStartOfHour(at) AS hour, model, count() AS n, \
         quantilesTDigestState(0.5, 0.99)(ms) AS q FROM events GROUP BY hour, model",
        "INSERT INTO events SELECT 't5', now() - number, number FROM numbers(100)",
        "INSERT INTO events VALUES ('t5', now(), 1), ('a;b', now(), 2)",
        "CREATE TABLE latest (id UInt64, version UInt64, text String) ENGINE = ReplacingMergeTree(version) ORDER BY id",
        "INSERT INTO latest FORMAT JSONEachRow {\"id\": 1, \"version\": 1, \"text\": \"old\"} {\"id\": 1, \"version\": 2, \"text\": \"new\"}",
        "ALTER TABLE latest ADD COLUMN extra UInt8 DEFAULT 7",
        "OPTIMIZE TABLE latest FINAL",
    ] {
        client
            .query(statement)
            .execute()
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    let counted: u64 = client
        .query("SELECT sum(n) FROM hourly")
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(counted, 102);
    let latest: (String, u8) = client
        .query("SELECT text, extra FROM latest FINAL")
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(latest, ("new".to_owned(), 7));
    let with: Option<u8> = client
        .query("WITH 3 AS x SELECT toUInt8(x)")
        .fetch_optional()
        .await
        .unwrap();
    assert_eq!(with, Some(3));
    let none: Option<u8> = client
        .query("SELECT toUInt8(1) WHERE 0")
        .fetch_optional()
        .await
        .unwrap();
    assert_eq!(none, None);
    let shown: Vec<String> = client.query("SHOW TABLES").fetch_all().await.unwrap();
    assert_eq!(shown.len(), 4);
}

#[tokio::test]
async fn parameters_and_bindings_are_escaped() {
    let Some(client) = client("parameters").await else {
        return;
    };
    let awkward = "it's a \"test\"; -- with\nlines, \\ and {braces}";
    let (text, sum): (String, u64) = client
        .query("SELECT {text:String}, arraySum({list:Array(UInt32)})")
        .param("text", awkward)
        .param("list", vec![1_u32, 2, 3])
        .fetch_one()
        .await
        .unwrap();
    assert_eq!((text.as_str(), sum), (awkward, 6));
    let bound: String = client.query("SELECT ?").bind(awkward).fetch_one().await.unwrap();
    assert_eq!(bound, awkward);
    let total: u64 = client
        .query("SELECT sum(number) FROM numbers({n:UInt64})")
        .param("n", 200_000_u64)
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(total, 199_999 * 100_000);
}

#[tokio::test]
async fn sessions_are_isolated_between_requests() {
    let Some(client) = client("isolation").await else {
        return;
    };
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=40_u64 {
        let client = client.clone();
        tasks.spawn(async move {
            let own = client.clone().with_setting("max_block_size", number.to_string());
            let got: (u64, String) = own
                .query("SELECT toUInt64(getSetting('max_block_size')), currentDatabase()")
                .fetch_one()
                .await
                .unwrap();
            assert_eq!(got, (number, "isolation".to_owned()));
            // No other request may see either of these.
            client
                .query("SET max_block_size = 12345")
                .execute()
                .await
                .unwrap();
            client
                .query("CREATE TEMPORARY TABLE mine (a UInt8)")
                .execute()
                .await
                .unwrap();
            let _ = own.query("SELECT throwIf(1)").execute().await.unwrap_err();
        });
    }
    tasks.join_all().await;
    let changed: u64 = client
        .query("SELECT toUInt64(getSetting('max_block_size') = 12345 OR getSetting('max_block_size') <= 40)")
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(changed, 0);
    assert!(client.query("SELECT * FROM mine").execute().await.is_err());
}

#[tokio::test]
async fn errors_carry_clickhouse_codes() {
    let Some(client) = client("errors").await else {
        return;
    };
    let text = |error: clickhouse::error::Error| error.to_string();
    let unknown = text(client.query("SELECT * FROM nowhere").execute().await.unwrap_err());
    assert!(
        unknown.contains("Code: 60") && unknown.contains("UNKNOWN_TABLE"),
        "{unknown}"
    );
    let syntax = text(client.query("SELEC 1").execute().await.unwrap_err());
    assert!(syntax.contains("Code: 62"), "{syntax}");
    let two = text(client.query("SELECT 1; SELECT 2").execute().await.unwrap_err());
    assert!(two.contains("Multi-statements are not allowed"), "{two}");
    let setting = text(
        client
            .clone()
            .with_setting("no_such_setting", "1")
            .query("SELECT 1")
            .execute()
            .await
            .unwrap_err(),
    );
    assert!(setting.contains("Code: 115"), "{setting}");
    let database = text(
        client
            .clone()
            .with_database("no_such")
            .query("SELECT 1")
            .execute()
            .await
            .unwrap_err(),
    );
    assert!(database.contains("Code: 81"), "{database}");
    let missing = insert(&client.clone().with_validation(false), &[sample(1)])
        .await
        .unwrap_err();
    assert!(text(missing).contains("Code: 60"));
    let rejected = client
        .clone()
        .with_password("wrong")
        .query("SELECT 1")
        .execute()
        .await
        .unwrap_err();
    assert!(text(rejected).contains("Code: 516"));
}

#[tokio::test]
async fn error_after_the_first_rows_reaches_the_client() {
    let Some(client) = client("mid_stream").await else {
        return;
    };
    let mut cursor = client
        .query("SELECT number FROM numbers(1000000) WHERE throwIf(number = 900000, 'on purpose') = 0")
        .fetch::<u64>()
        .unwrap();
    let mut seen = 0;
    let error = loop {
        match cursor.next().await {
            Ok(Some(_)) => seen += 1,
            Ok(None) => panic!("the stream ended as if it were complete, after {seen} rows"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(
        error.contains("Code: 395") && error.contains("on purpose"),
        "{error}"
    );
    assert!(seen > 0, "no rows before the error");
}
