-- Figures in granules of 256 rows in the place of 8192, histograms that are read faster, and last versions merged soon.
--
-- A row of figures is wide: its histograms alone are some kilobytes. A window's edges are a few hundred rows of a table, of
-- which a granule is the least that is read. Counts of histograms are UInt32 and packed by LZ4: half of the bytes, and half
-- of the time to read them, for a third more on disk. And what is computed again and again while its hour or its day goes
-- on is read once only when its versions are merged, which nothing else asks for once that time is over.
--
-- Each table is replaced in one step by one with the same columns and rows, also when two do so at once. How long its rows
-- are kept is set afterwards from the configuration, as always: until then none is forgotten. What is computed meanwhile
-- may be written to the table that goes: it is computed again, as all marks are given anew at the end.

CREATE OR REPLACE TABLE prediction_minutes
(
    `minute`                DateTime('UTC') CODEC(Delta, ZSTD(1)),
    `tenant`                LowCardinality(String),
    `channel`               LowCardinality(String),
    `task`                  LowCardinality(String),
    `lane`                  LowCardinality(String),
    `model`                 LowCardinality(String),
    `revision`              LowCardinality(String),
    `outcome`               LowCardinality(String),
    `error_code`            LowCardinality(String),
    `version`               DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    -- How many: all, delivered more than once, with a summary, with a reference.
    `predictions`           UInt64 CODEC(ZSTD(1)),
    `redelivered`           UInt64 CODEC(ZSTD(1)),
    `summarized`            UInt64 CODEC(ZSTD(1)),
    `referenced`            UInt64 CODEC(ZSTD(1)),
    -- Sum and greatest of the times from submission to result, in milliseconds.
    `end_to_end_ms_sum`     Float64 CODEC(ZSTD(1)),
    `end_to_end_ms_max`     Float64 CODEC(ZSTD(1)),
    -- Sums of sizes: over all, over those with a summary, over those with a reference.
    `text_chars`            UInt64 CODEC(ZSTD(1)),
    `text_tokens`           UInt64 CODEC(ZSTD(1)),
    `truncated_tokens`      UInt64 CODEC(ZSTD(1)),
    `summary_chars`         UInt64 CODEC(ZSTD(1)),
    `summary_tokens`        UInt64 CODEC(ZSTD(1)),
    `reference_chars`       UInt64 CODEC(ZSTD(1)),
    `batch_size`            UInt64 CODEC(ZSTD(1)),
    `padding_ratio`         Float64 CODEC(ZSTD(1)),
    -- Sums of characters of the text by character of the summary, and of the reference; how many have one.
    `compression`           Float64 CODEC(ZSTD(1)),
    `compressed`            UInt64 CODEC(ZSTD(1)),
    `reference_compression` Float64 CODEC(ZSTD(1)),
    -- Sums of the signals that need no reference, over `signalled` predictions.
    `signalled`             UInt64 CODEC(ZSTD(1)),
    `coverage`              Float64 CODEC(ZSTD(1)),
    `density`               Float64 CODEC(ZSTD(1)),
    `novel_bigrams`         Float64 CODEC(ZSTD(1)),
    `repetition_rate`       Float64 CODEC(ZSTD(1)),
    `empty`                 UInt64 CODEC(ZSTD(1)),
    `truncated`             UInt64 CODEC(ZSTD(1)),
    -- Of each score: sum, sum of squares, least, greatest (0 without any), and counts in twenty bins of equal
    -- width from 0 to the best; their sum is how many have the score.
    `scored`                UInt64 CODEC(ZSTD(1)),
    `rouge1_sum`            Float64 CODEC(ZSTD(1)),
    `rouge1_squares`        Float64 CODEC(ZSTD(1)),
    `rouge1_min`            Float64 CODEC(ZSTD(1)),
    `rouge1_max`            Float64 CODEC(ZSTD(1)),
    `rouge1_bins`           Array(UInt64) CODEC(LZ4),
    `rouge2_sum`            Float64 CODEC(ZSTD(1)),
    `rouge2_squares`        Float64 CODEC(ZSTD(1)),
    `rouge2_min`            Float64 CODEC(ZSTD(1)),
    `rouge2_max`            Float64 CODEC(ZSTD(1)),
    `rouge2_bins`           Array(UInt64) CODEC(LZ4),
    `rougeL_sum`            Float64 CODEC(ZSTD(1)),
    `rougeL_squares`        Float64 CODEC(ZSTD(1)),
    `rougeL_min`            Float64 CODEC(ZSTD(1)),
    `rougeL_max`            Float64 CODEC(ZSTD(1)),
    `rougeL_bins`           Array(UInt64) CODEC(LZ4),
    `rougeLsum_sum`         Float64 CODEC(ZSTD(1)),
    `rougeLsum_squares`     Float64 CODEC(ZSTD(1)),
    `rougeLsum_min`         Float64 CODEC(ZSTD(1)),
    `rougeLsum_max`         Float64 CODEC(ZSTD(1)),
    `rougeLsum_bins`        Array(UInt64) CODEC(LZ4),
    `bleu_sum`              Float64 CODEC(ZSTD(1)),
    `bleu_squares`          Float64 CODEC(ZSTD(1)),
    `bleu_min`              Float64 CODEC(ZSTD(1)),
    `bleu_max`              Float64 CODEC(ZSTD(1)),
    `bleu_bins`             Array(UInt64) CODEC(LZ4),
    -- Histograms of times: bins by the hundredth, as migration 9 says.
    `queue_bins`            Map(UInt16, UInt32) CODEC(LZ4),
    `batch_wait_bins`       Map(UInt16, UInt32) CODEC(LZ4),
    `tokenize_bins`         Map(UInt16, UInt32) CODEC(LZ4),
    `encode_bins`           Map(UInt16, UInt32) CODEC(LZ4),
    `decode_bins`           Map(UInt16, UInt32) CODEC(LZ4),
    `publish_bins`          Map(UInt16, UInt32) CODEC(LZ4),
    `end_to_end_bins`       Map(UInt16, UInt32) CODEC(LZ4)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, tenant, channel, task, lane, model, revision, outcome, error_code)
SETTINGS index_granularity = 256
AS SELECT * FROM prediction_minutes FINAL
SETTINGS max_block_size = 4096, max_threads = 2;

CREATE OR REPLACE TABLE prediction_hours
(
    `minute`                DateTime('UTC') CODEC(Delta, ZSTD(1)),
    `tenant`                LowCardinality(String),
    `channel`               LowCardinality(String),
    `task`                  LowCardinality(String),
    `lane`                  LowCardinality(String),
    `model`                 LowCardinality(String),
    `revision`              LowCardinality(String),
    `outcome`               LowCardinality(String),
    `error_code`            LowCardinality(String),
    `version`               DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `predictions`           UInt64 CODEC(ZSTD(1)),
    `redelivered`           UInt64 CODEC(ZSTD(1)),
    `summarized`            UInt64 CODEC(ZSTD(1)),
    `referenced`            UInt64 CODEC(ZSTD(1)),
    `end_to_end_ms_sum`     Float64 CODEC(ZSTD(1)),
    `end_to_end_ms_max`     Float64 CODEC(ZSTD(1)),
    `text_chars`            UInt64 CODEC(ZSTD(1)),
    `text_tokens`           UInt64 CODEC(ZSTD(1)),
    `truncated_tokens`      UInt64 CODEC(ZSTD(1)),
    `summary_chars`         UInt64 CODEC(ZSTD(1)),
    `summary_tokens`        UInt64 CODEC(ZSTD(1)),
    `reference_chars`       UInt64 CODEC(ZSTD(1)),
    `batch_size`            UInt64 CODEC(ZSTD(1)),
    `padding_ratio`         Float64 CODEC(ZSTD(1)),
    `compression`           Float64 CODEC(ZSTD(1)),
    `compressed`            UInt64 CODEC(ZSTD(1)),
    `reference_compression` Float64 CODEC(ZSTD(1)),
    `signalled`             UInt64 CODEC(ZSTD(1)),
    `coverage`              Float64 CODEC(ZSTD(1)),
    `density`               Float64 CODEC(ZSTD(1)),
    `novel_bigrams`         Float64 CODEC(ZSTD(1)),
    `repetition_rate`       Float64 CODEC(ZSTD(1)),
    `empty`                 UInt64 CODEC(ZSTD(1)),
    `truncated`             UInt64 CODEC(ZSTD(1)),
    `scored`                UInt64 CODEC(ZSTD(1)),
    `rouge1_sum`            Float64 CODEC(ZSTD(1)),
    `rouge1_squares`        Float64 CODEC(ZSTD(1)),
    `rouge1_min`            Float64 CODEC(ZSTD(1)),
    `rouge1_max`            Float64 CODEC(ZSTD(1)),
    `rouge1_bins`           Array(UInt64) CODEC(LZ4),
    `rouge2_sum`            Float64 CODEC(ZSTD(1)),
    `rouge2_squares`        Float64 CODEC(ZSTD(1)),
    `rouge2_min`            Float64 CODEC(ZSTD(1)),
    `rouge2_max`            Float64 CODEC(ZSTD(1)),
    `rouge2_bins`           Array(UInt64) CODEC(LZ4),
    `rougeL_sum`            Float64 CODEC(ZSTD(1)),
    `rougeL_squares`        Float64 CODEC(ZSTD(1)),
    `rougeL_min`            Float64 CODEC(ZSTD(1)),
    `rougeL_max`            Float64 CODEC(ZSTD(1)),
    `rougeL_bins`           Array(UInt64) CODEC(LZ4),
    `rougeLsum_sum`         Float64 CODEC(ZSTD(1)),
    `rougeLsum_squares`     Float64 CODEC(ZSTD(1)),
    `rougeLsum_min`         Float64 CODEC(ZSTD(1)),
    `rougeLsum_max`         Float64 CODEC(ZSTD(1)),
    `rougeLsum_bins`        Array(UInt64) CODEC(LZ4),
    `bleu_sum`              Float64 CODEC(ZSTD(1)),
    `bleu_squares`          Float64 CODEC(ZSTD(1)),
    `bleu_min`              Float64 CODEC(ZSTD(1)),
    `bleu_max`              Float64 CODEC(ZSTD(1)),
    `bleu_bins`             Array(UInt64) CODEC(LZ4),
    `queue_bins`            Map(UInt16, UInt32) CODEC(LZ4),
    `batch_wait_bins`       Map(UInt16, UInt32) CODEC(LZ4),
    `tokenize_bins`         Map(UInt16, UInt32) CODEC(LZ4),
    `encode_bins`           Map(UInt16, UInt32) CODEC(LZ4),
    `decode_bins`           Map(UInt16, UInt32) CODEC(LZ4),
    `publish_bins`          Map(UInt16, UInt32) CODEC(LZ4),
    `end_to_end_bins`       Map(UInt16, UInt32) CODEC(LZ4)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, tenant, channel, task, lane, model, revision, outcome, error_code)
SETTINGS index_granularity = 256, min_age_to_force_merge_seconds = 3600
AS SELECT * FROM prediction_hours FINAL
SETTINGS max_block_size = 4096, max_threads = 2;

CREATE OR REPLACE TABLE prediction_days
(
    `minute`                DateTime('UTC') CODEC(Delta, ZSTD(1)),
    `tenant`                LowCardinality(String),
    `channel`               LowCardinality(String),
    `task`                  LowCardinality(String),
    `lane`                  LowCardinality(String),
    `model`                 LowCardinality(String),
    `revision`              LowCardinality(String),
    `outcome`               LowCardinality(String),
    `error_code`            LowCardinality(String),
    `version`               DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `predictions`           UInt64 CODEC(ZSTD(1)),
    `redelivered`           UInt64 CODEC(ZSTD(1)),
    `summarized`            UInt64 CODEC(ZSTD(1)),
    `referenced`            UInt64 CODEC(ZSTD(1)),
    `end_to_end_ms_sum`     Float64 CODEC(ZSTD(1)),
    `end_to_end_ms_max`     Float64 CODEC(ZSTD(1)),
    `text_chars`            UInt64 CODEC(ZSTD(1)),
    `text_tokens`           UInt64 CODEC(ZSTD(1)),
    `truncated_tokens`      UInt64 CODEC(ZSTD(1)),
    `summary_chars`         UInt64 CODEC(ZSTD(1)),
    `summary_tokens`        UInt64 CODEC(ZSTD(1)),
    `reference_chars`       UInt64 CODEC(ZSTD(1)),
    `batch_size`            UInt64 CODEC(ZSTD(1)),
    `padding_ratio`         Float64 CODEC(ZSTD(1)),
    `compression`           Float64 CODEC(ZSTD(1)),
    `compressed`            UInt64 CODEC(ZSTD(1)),
    `reference_compression` Float64 CODEC(ZSTD(1)),
    `signalled`             UInt64 CODEC(ZSTD(1)),
    `coverage`              Float64 CODEC(ZSTD(1)),
    `density`               Float64 CODEC(ZSTD(1)),
    `novel_bigrams`         Float64 CODEC(ZSTD(1)),
    `repetition_rate`       Float64 CODEC(ZSTD(1)),
    `empty`                 UInt64 CODEC(ZSTD(1)),
    `truncated`             UInt64 CODEC(ZSTD(1)),
    `scored`                UInt64 CODEC(ZSTD(1)),
    `rouge1_sum`            Float64 CODEC(ZSTD(1)),
    `rouge1_squares`        Float64 CODEC(ZSTD(1)),
    `rouge1_min`            Float64 CODEC(ZSTD(1)),
    `rouge1_max`            Float64 CODEC(ZSTD(1)),
    `rouge1_bins`           Array(UInt64) CODEC(LZ4),
    `rouge2_sum`            Float64 CODEC(ZSTD(1)),
    `rouge2_squares`        Float64 CODEC(ZSTD(1)),
    `rouge2_min`            Float64 CODEC(ZSTD(1)),
    `rouge2_max`            Float64 CODEC(ZSTD(1)),
    `rouge2_bins`           Array(UInt64) CODEC(LZ4),
    `rougeL_sum`            Float64 CODEC(ZSTD(1)),
    `rougeL_squares`        Float64 CODEC(ZSTD(1)),
    `rougeL_min`            Float64 CODEC(ZSTD(1)),
    `rougeL_max`            Float64 CODEC(ZSTD(1)),
    `rougeL_bins`           Array(UInt64) CODEC(LZ4),
    `rougeLsum_sum`         Float64 CODEC(ZSTD(1)),
    `rougeLsum_squares`     Float64 CODEC(ZSTD(1)),
    `rougeLsum_min`         Float64 CODEC(ZSTD(1)),
    `rougeLsum_max`         Float64 CODEC(ZSTD(1)),
    `rougeLsum_bins`        Array(UInt64) CODEC(LZ4),
    `bleu_sum`              Float64 CODEC(ZSTD(1)),
    `bleu_squares`          Float64 CODEC(ZSTD(1)),
    `bleu_min`              Float64 CODEC(ZSTD(1)),
    `bleu_max`              Float64 CODEC(ZSTD(1)),
    `bleu_bins`             Array(UInt64) CODEC(LZ4),
    `queue_bins`            Map(UInt16, UInt32) CODEC(LZ4),
    `batch_wait_bins`       Map(UInt16, UInt32) CODEC(LZ4),
    `tokenize_bins`         Map(UInt16, UInt32) CODEC(LZ4),
    `encode_bins`           Map(UInt16, UInt32) CODEC(LZ4),
    `decode_bins`           Map(UInt16, UInt32) CODEC(LZ4),
    `publish_bins`          Map(UInt16, UInt32) CODEC(LZ4),
    `end_to_end_bins`       Map(UInt16, UInt32) CODEC(LZ4)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, tenant, channel, task, lane, model, revision, outcome, error_code)
SETTINGS index_granularity = 256, min_age_to_force_merge_seconds = 300
AS SELECT * FROM prediction_days FINAL
SETTINGS max_block_size = 4096, max_threads = 2;

INSERT INTO dirty_minutes
SELECT DISTINCT minute, now64(3)
FROM dirty_minutes;
