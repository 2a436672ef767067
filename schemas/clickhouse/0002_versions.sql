-- Predictions with everything that is known of them, and with references that come late.
--
-- A prediction is a row of version 0, made from the job's one completion record. A reference that comes
-- later makes the whole row anew with a higher version (microseconds since 1970 at which the stream took the
-- reference); the view `predictions` shows the latest version of each, and nothing twice even while merges
-- are pending.
--
-- In order of time, because every question has a time window: what lies outside is not read, parts hardly
-- overlap (which makes FINAL cheap), and neighbours are alike (which makes them small). One job is found by
-- the Bloom filter.
CREATE TABLE IF NOT EXISTS prediction_versions
(
    `job_id`               String CODEC(ZSTD(1)),
    `version`              UInt64 CODEC(ZSTD(1)),
    `job_sequence`         UInt64 CODEC(Delta, ZSTD(1)),
    `result_sequence`      UInt64 CODEC(Delta, ZSTD(1)),
    `submitted_at`         DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `started_at`           Nullable(DateTime64(3, 'UTC')) CODEC(Delta, ZSTD(1)),
    `finished_at`          DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `tenant`               LowCardinality(String),
    `channel`              LowCardinality(String),
    `task`                 LowCardinality(String),
    `lane`                 LowCardinality(String),
    `outcome`              LowCardinality(String),
    `error_code`           LowCardinality(String),
    `error_message`        String CODEC(ZSTD(1)),
    `served_as`            LowCardinality(String),
    `model`                LowCardinality(String),
    `revision`             LowCardinality(String),
    `worker`               LowCardinality(String),
    `device`               LowCardinality(String),
    `attempt`              UInt16 CODEC(ZSTD(1)),
    -- Times by stage, in milliseconds.
    `queue_ms`             Float64 CODEC(ZSTD(1)),
    `batch_wait_ms`        Float64 CODEC(ZSTD(1)),
    `tokenize_ms`          Float64 CODEC(ZSTD(1)),
    `encode_ms`            Float64 CODEC(ZSTD(1)),
    `decode_ms`            Float64 CODEC(ZSTD(1)),
    `publish_ms`           Float64 CODEC(ZSTD(1)),
    `end_to_end_ms`        Float64 CODEC(ZSTD(1)),
    -- Sizes.
    `text_chars`           UInt32 CODEC(ZSTD(1)),
    `text_tokens`          UInt32 CODEC(ZSTD(1)),
    `truncated_tokens`     UInt32 CODEC(ZSTD(1)),
    `summary_chars`        UInt32 CODEC(ZSTD(1)),
    `summary_tokens`       UInt32 CODEC(ZSTD(1)),
    `reference_chars`      UInt32 CODEC(ZSTD(1)),
    `batch_size`           UInt16 CODEC(ZSTD(1)),
    `padding_ratio`        Float32 CODEC(ZSTD(1)),
    -- Against the reference; NULL without one. ROUGE without stemming, 0 to 1: F-measure under the plain
    -- name, precision, recall; F-measure with the Porter stemmer. BLEU as sacreBLEU has it, 0 to 100.
    `rouge1`               Nullable(Float64) CODEC(ZSTD(1)),
    `rouge2`               Nullable(Float64) CODEC(ZSTD(1)),
    `rougeL`               Nullable(Float64) CODEC(ZSTD(1)),
    `rougeLsum`            Nullable(Float64) CODEC(ZSTD(1)),
    `rouge1_precision`     Nullable(Float64) CODEC(ZSTD(1)),
    `rouge1_recall`        Nullable(Float64) CODEC(ZSTD(1)),
    `rouge2_precision`     Nullable(Float64) CODEC(ZSTD(1)),
    `rouge2_recall`        Nullable(Float64) CODEC(ZSTD(1)),
    `rougeL_precision`     Nullable(Float64) CODEC(ZSTD(1)),
    `rougeL_recall`        Nullable(Float64) CODEC(ZSTD(1)),
    `rougeLsum_precision`  Nullable(Float64) CODEC(ZSTD(1)),
    `rougeLsum_recall`     Nullable(Float64) CODEC(ZSTD(1)),
    `rouge1_stemmed`       Nullable(Float64) CODEC(ZSTD(1)),
    `rouge2_stemmed`       Nullable(Float64) CODEC(ZSTD(1)),
    `rougeL_stemmed`       Nullable(Float64) CODEC(ZSTD(1)),
    `rougeLsum_stemmed`    Nullable(Float64) CODEC(ZSTD(1)),
    `bleu`                 Nullable(Float64) CODEC(ZSTD(1)),
    -- Of the text and the summary alone; NULL without a summary. See scoring/src/signals.rs.
    `text_words`           Nullable(UInt32) CODEC(ZSTD(1)),
    `summary_words`        Nullable(UInt32) CODEC(ZSTD(1)),
    `compression_ratio`    Nullable(Float32) CODEC(ZSTD(1)),
    `coverage`             Nullable(Float32) CODEC(ZSTD(1)),
    `density`              Nullable(Float32) CODEC(ZSTD(1)),
    `novel_unigrams`       Nullable(Float32) CODEC(ZSTD(1)),
    `novel_bigrams`        Nullable(Float32) CODEC(ZSTD(1)),
    `novel_trigrams`       Nullable(Float32) CODEC(ZSTD(1)),
    `repetition_rate`      Nullable(Float32) CODEC(ZSTD(1)),
    `is_empty`             Nullable(Bool) CODEC(ZSTD(1)),
    `is_truncated`         Nullable(Bool) CODEC(ZSTD(1)),
    `params`               String CODEC(ZSTD(1)),
    `metadata`             Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    -- How the texts below were kept: full, truncated, hash (SHA-256, in hexadecimal digits) or none.
    `text_policy`          LowCardinality(String),
    `reference_at`         Nullable(DateTime64(3, 'UTC')) CODEC(Delta, ZSTD(1)),
    `text`                 String CODEC(ZSTD(3)) TTL toDateTime(finished_at) + INTERVAL 30 DAY,
    `summary`              String CODEC(ZSTD(3)) TTL toDateTime(finished_at) + INTERVAL 30 DAY,
    `reference`            String CODEC(ZSTD(3)) TTL toDateTime(finished_at) + INTERVAL 30 DAY,
    `text_embedding`       Array(Float32) CODEC(ZSTD(1)) TTL toDateTime(finished_at) + INTERVAL 30 DAY,
    `summary_embedding`    Array(Float32) CODEC(ZSTD(1)) TTL toDateTime(finished_at) + INTERVAL 30 DAY,
    INDEX by_job job_id TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(finished_at)
ORDER BY (finished_at, job_id)
TTL toDateTime(finished_at) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 1000;

CREATE OR REPLACE VIEW predictions AS
SELECT * FROM prediction_versions FINAL;

-- What version 1 of the schema has kept. Repeated after a stop in the middle, it copies what is missing.
INSERT INTO prediction_versions
(
    job_id, version, job_sequence, result_sequence, submitted_at, started_at, finished_at, tenant, channel, task, lane,
    outcome, error_code, error_message, served_as, model, revision, worker, device, attempt, queue_ms, batch_wait_ms,
    tokenize_ms, encode_ms, decode_ms, publish_ms, end_to_end_ms, text_chars, text_tokens, truncated_tokens,
    summary_chars, summary_tokens, reference_chars, batch_size, padding_ratio, rouge1, rouge2, rougeL, params, metadata,
    text_policy, text, summary, reference
)
SELECT
    job_id, 0, job_sequence, result_sequence, submitted_at, started_at, finished_at, tenant, channel, task, lane,
    outcome, error_code, error_message, served_as, model, revision, worker, device, attempt, queue_ms, batch_wait_ms,
    tokenize_ms, encode_ms, decode_ms, publish_ms, end_to_end_ms, text_chars, text_tokens, truncated_tokens,
    summary_chars, summary_tokens, reference_chars, batch_size, padding_ratio, rouge1, rouge2, rougeL, params, metadata,
    'full', text, summary, reference
FROM prediction_rows FINAL
WHERE (finished_at, job_id) NOT IN (SELECT finished_at, job_id FROM prediction_versions)
SETTINGS max_partitions_per_insert_block = 0;
