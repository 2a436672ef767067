-- One row per finished job.
--
-- A job has exactly one completion record, so the same job inserted twice (a crash between insert and
-- acknowledgement) is the same row twice: ReplacingMergeTree keeps one, and the view `predictions`
-- shows one even before the merge. Blocks also carry a deduplication token.
CREATE TABLE IF NOT EXISTS prediction_rows
(
    `job_id`           String,
    `job_sequence`     UInt64 CODEC(Delta, ZSTD(1)),
    `result_sequence`  UInt64 CODEC(Delta, ZSTD(1)),
    `submitted_at`     DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `started_at`       Nullable(DateTime64(3, 'UTC')),
    `finished_at`      DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `tenant`           LowCardinality(String),
    `channel`          LowCardinality(String),
    `task`             LowCardinality(String),
    `lane`             LowCardinality(String),
    `outcome`          LowCardinality(String),
    `error_code`       LowCardinality(String),
    `error_message`    String CODEC(ZSTD(1)),
    `served_as`        LowCardinality(String),
    `model`            LowCardinality(String),
    `revision`         LowCardinality(String),
    `worker`           LowCardinality(String),
    `device`           LowCardinality(String),
    `attempt`          UInt16,
    -- Times by stage, in milliseconds.
    `queue_ms`         Float64,
    `batch_wait_ms`    Float64,
    `tokenize_ms`      Float64,
    `encode_ms`        Float64,
    `decode_ms`        Float64,
    `publish_ms`       Float64,
    `end_to_end_ms`    Float64,
    -- Sizes.
    `text_chars`       UInt32,
    `text_tokens`      UInt32,
    `truncated_tokens` UInt32,
    `summary_chars`    UInt32,
    `summary_tokens`   UInt32,
    `reference_chars`  UInt32,
    `batch_size`       UInt16,
    `padding_ratio`    Float32,
    -- F-measures without stemming, 0 to 1; NULL without a reference.
    `rouge1`           Nullable(Float64),
    `rouge2`           Nullable(Float64),
    `rougeL`           Nullable(Float64),
    `params`           String CODEC(ZSTD(1)),
    `metadata`         Map(LowCardinality(String), String),
    `text`             String CODEC(ZSTD(3)),
    `summary`          String CODEC(ZSTD(3)),
    `reference`        String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(finished_at)
ORDER BY (model, finished_at, job_id)
TTL toDateTime(finished_at) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 1000;

CREATE VIEW IF NOT EXISTS predictions AS
SELECT * FROM prediction_rows FINAL;
