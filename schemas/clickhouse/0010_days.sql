-- Figures by day beside those by minute and by hour, so that a month is read as thirty days and not as seven hundred hours.
DROP VIEW IF EXISTS prediction_days_view;
DROP VIEW IF EXISTS prediction_minutes_view;
DROP VIEW IF EXISTS prediction_hours_view;

ALTER TABLE prediction_minutes
    DROP COLUMN IF EXISTS queue_ms,
    DROP COLUMN IF EXISTS batch_wait_ms,
    DROP COLUMN IF EXISTS tokenize_ms,
    DROP COLUMN IF EXISTS encode_ms,
    DROP COLUMN IF EXISTS decode_ms,
    DROP COLUMN IF EXISTS publish_ms,
    DROP COLUMN IF EXISTS end_to_end_ms;

ALTER TABLE prediction_hours
    DROP COLUMN IF EXISTS queue_ms,
    DROP COLUMN IF EXISTS batch_wait_ms,
    DROP COLUMN IF EXISTS tokenize_ms,
    DROP COLUMN IF EXISTS encode_ms,
    DROP COLUMN IF EXISTS decode_ms,
    DROP COLUMN IF EXISTS publish_ms,
    DROP COLUMN IF EXISTS end_to_end_ms;

CREATE TABLE IF NOT EXISTS prediction_days AS prediction_hours;

CREATE MATERIALIZED VIEW IF NOT EXISTS prediction_minutes_view
REFRESH EVERY 5 SECOND APPEND TO prediction_minutes AS
WITH touched AS
(
    SELECT marks.minute AS minute
    FROM (SELECT minute, max(marked_at) AS marked_at FROM dirty_minutes GROUP BY minute) AS marks
    LEFT JOIN
    (
        SELECT minute, max(version) AS version
        FROM prediction_minutes
        WHERE minute IN (SELECT minute FROM dirty_minutes)
        GROUP BY minute
    ) AS done ON done.minute = marks.minute
    WHERE marks.marked_at > done.version - INTERVAL 60 SECOND
    ORDER BY marks.minute > now() - INTERVAL 15 MINUTE DESC, done.version, marks.minute DESC
    LIMIT 480
),
ms -> toUInt16(if(ms > 0.001, least(65535, ceil(log(ms / 0.001) / log(1.01 / 0.99))), 0)) AS bin_of
SELECT
    toDateTime(toStartOfMinute(finished_at), 'UTC') AS minute,
    tenant, channel, task, lane, model, revision, outcome, error_code,
    now64(3) AS version,
    count() AS predictions,
    countIf(attempt > 1) AS redelivered,
    countIf(row.outcome = 'succeeded') AS summarized,
    countIf(row.reference_chars > 0) AS referenced,
    sum(row.end_to_end_ms) AS end_to_end_ms_sum,
    max(row.end_to_end_ms) AS end_to_end_ms_max,
    sum(toUInt64(row.text_chars)) AS text_chars,
    sum(toUInt64(row.text_tokens)) AS text_tokens,
    sum(toUInt64(row.truncated_tokens)) AS truncated_tokens,
    sum(toUInt64(row.summary_chars)) AS summary_chars,
    sum(toUInt64(row.summary_tokens)) AS summary_tokens,
    sum(toUInt64(row.reference_chars)) AS reference_chars,
    sum(toUInt64(row.batch_size)) AS batch_size,
    sum(toFloat64(row.padding_ratio)) AS padding_ratio,
    sumIf(row.text_chars / row.summary_chars, row.summary_chars > 0) AS compression,
    countIf(row.summary_chars > 0) AS compressed,
    sumIf(row.text_chars / row.reference_chars, row.reference_chars > 0) AS reference_compression,
    count(row.coverage) AS signalled,
    sum(ifNull(toFloat64(row.coverage), 0)) AS coverage,
    sum(ifNull(toFloat64(row.density), 0)) AS density,
    sum(ifNull(toFloat64(row.novel_bigrams), 0)) AS novel_bigrams,
    sum(ifNull(toFloat64(row.repetition_rate), 0)) AS repetition_rate,
    countIf(ifNull(is_empty, false)) AS empty,
    countIf(ifNull(is_truncated, false)) AS truncated,
    count(rouge1) AS scored,
    sum(ifNull(rouge1, 0)) AS rouge1_sum,
    sum(ifNull(rouge1 * rouge1, 0)) AS rouge1_squares,
    ifNull(min(rouge1), 0) AS rouge1_min,
    ifNull(max(rouge1), 0) AS rouge1_max,
    sumForEach(arrayMap(bin -> toUInt64(ifNull(floor(rouge1 * 20) = bin OR (bin = 19 AND rouge1 >= 1), 0)), range(20))) AS rouge1_bins,
    sum(ifNull(rouge2, 0)) AS rouge2_sum,
    sum(ifNull(rouge2 * rouge2, 0)) AS rouge2_squares,
    ifNull(min(rouge2), 0) AS rouge2_min,
    ifNull(max(rouge2), 0) AS rouge2_max,
    sumForEach(arrayMap(bin -> toUInt64(ifNull(floor(rouge2 * 20) = bin OR (bin = 19 AND rouge2 >= 1), 0)), range(20))) AS rouge2_bins,
    sum(ifNull(rougeL, 0)) AS rougeL_sum,
    sum(ifNull(rougeL * rougeL, 0)) AS rougeL_squares,
    ifNull(min(rougeL), 0) AS rougeL_min,
    ifNull(max(rougeL), 0) AS rougeL_max,
    sumForEach(arrayMap(bin -> toUInt64(ifNull(floor(rougeL * 20) = bin OR (bin = 19 AND rougeL >= 1), 0)), range(20))) AS rougeL_bins,
    sum(ifNull(rougeLsum, 0)) AS rougeLsum_sum,
    sum(ifNull(rougeLsum * rougeLsum, 0)) AS rougeLsum_squares,
    ifNull(min(rougeLsum), 0) AS rougeLsum_min,
    ifNull(max(rougeLsum), 0) AS rougeLsum_max,
    sumForEach(arrayMap(bin -> toUInt64(ifNull(floor(rougeLsum * 20) = bin OR (bin = 19 AND rougeLsum >= 1), 0)), range(20))) AS rougeLsum_bins,
    sum(ifNull(bleu, 0)) AS bleu_sum,
    sum(ifNull(bleu * bleu, 0)) AS bleu_squares,
    ifNull(min(bleu), 0) AS bleu_min,
    ifNull(max(bleu), 0) AS bleu_max,
    sumForEach(arrayMap(bin -> toUInt64(ifNull(floor(bleu / 5) = bin OR (bin = 19 AND bleu >= 100), 0)), range(20))) AS bleu_bins,
    sumMap(map(bin_of(row.queue_ms), 1)) AS queue_bins,
    sumMap(map(bin_of(row.batch_wait_ms), 1)) AS batch_wait_bins,
    sumMap(map(bin_of(row.tokenize_ms), 1)) AS tokenize_bins,
    sumMap(map(bin_of(row.encode_ms), 1)) AS encode_bins,
    sumMap(map(bin_of(row.decode_ms), 1)) AS decode_bins,
    sumMap(map(bin_of(row.publish_ms), 1)) AS publish_bins,
    sumMap(map(bin_of(row.end_to_end_ms), 1)) AS end_to_end_bins
FROM prediction_versions AS row FINAL
WHERE toStartOfMinute(finished_at) IN (SELECT minute FROM touched)
GROUP BY minute, tenant, channel, task, lane, model, revision, outcome, error_code
SETTINGS max_threads = 2;

CREATE MATERIALIZED VIEW IF NOT EXISTS prediction_hours_view
REFRESH EVERY 10 SECOND APPEND TO prediction_hours AS
WITH touched AS
(
    SELECT parts.hour AS hour
    FROM
    (
        SELECT toDateTime(toStartOfHour(minute), 'UTC') AS hour, max(version) AS version
        FROM prediction_minutes
        WHERE toStartOfHour(minute) IN (SELECT toStartOfHour(minute) FROM dirty_minutes)
        GROUP BY hour
    ) AS parts
    LEFT JOIN
    (
        SELECT minute AS hour, max(version) AS version
        FROM prediction_hours
        WHERE minute IN (SELECT toDateTime(toStartOfHour(minute), 'UTC') FROM dirty_minutes)
        GROUP BY hour
    ) AS done ON done.hour = parts.hour
    WHERE parts.version > done.version - INTERVAL 60 SECOND
    ORDER BY parts.hour > now() - INTERVAL 2 HOUR DESC, done.version, parts.hour DESC
    LIMIT 24
)
SELECT
    toDateTime(toStartOfHour(m.minute), 'UTC') AS minute,
    tenant, channel, task, lane, model, revision, outcome, error_code,
    now64(3) AS version,
    sum(m.predictions) AS predictions,
    sum(m.redelivered) AS redelivered,
    sum(m.summarized) AS summarized,
    sum(m.referenced) AS referenced,
    sum(m.end_to_end_ms_sum) AS end_to_end_ms_sum,
    max(m.end_to_end_ms_max) AS end_to_end_ms_max,
    sum(m.text_chars) AS text_chars,
    sum(m.text_tokens) AS text_tokens,
    sum(m.truncated_tokens) AS truncated_tokens,
    sum(m.summary_chars) AS summary_chars,
    sum(m.summary_tokens) AS summary_tokens,
    sum(m.reference_chars) AS reference_chars,
    sum(m.batch_size) AS batch_size,
    sum(m.padding_ratio) AS padding_ratio,
    sum(m.compression) AS compression,
    sum(m.compressed) AS compressed,
    sum(m.reference_compression) AS reference_compression,
    sum(m.signalled) AS signalled,
    sum(m.coverage) AS coverage,
    sum(m.density) AS density,
    sum(m.novel_bigrams) AS novel_bigrams,
    sum(m.repetition_rate) AS repetition_rate,
    sum(m.empty) AS empty,
    sum(m.truncated) AS truncated,
    sum(m.scored) AS scored,
    sum(m.rouge1_sum) AS rouge1_sum,
    sum(m.rouge1_squares) AS rouge1_squares,
    minIf(m.rouge1_min, arraySum(m.rouge1_bins) > 0) AS rouge1_min,
    max(m.rouge1_max) AS rouge1_max,
    sumForEach(m.rouge1_bins) AS rouge1_bins,
    sum(m.rouge2_sum) AS rouge2_sum,
    sum(m.rouge2_squares) AS rouge2_squares,
    minIf(m.rouge2_min, arraySum(m.rouge2_bins) > 0) AS rouge2_min,
    max(m.rouge2_max) AS rouge2_max,
    sumForEach(m.rouge2_bins) AS rouge2_bins,
    sum(m.rougeL_sum) AS rougeL_sum,
    sum(m.rougeL_squares) AS rougeL_squares,
    minIf(m.rougeL_min, arraySum(m.rougeL_bins) > 0) AS rougeL_min,
    max(m.rougeL_max) AS rougeL_max,
    sumForEach(m.rougeL_bins) AS rougeL_bins,
    sum(m.rougeLsum_sum) AS rougeLsum_sum,
    sum(m.rougeLsum_squares) AS rougeLsum_squares,
    minIf(m.rougeLsum_min, arraySum(m.rougeLsum_bins) > 0) AS rougeLsum_min,
    max(m.rougeLsum_max) AS rougeLsum_max,
    sumForEach(m.rougeLsum_bins) AS rougeLsum_bins,
    sum(m.bleu_sum) AS bleu_sum,
    sum(m.bleu_squares) AS bleu_squares,
    minIf(m.bleu_min, arraySum(m.bleu_bins) > 0) AS bleu_min,
    max(m.bleu_max) AS bleu_max,
    sumForEach(m.bleu_bins) AS bleu_bins,
    sumMap(m.queue_bins) AS queue_bins,
    sumMap(m.batch_wait_bins) AS batch_wait_bins,
    sumMap(m.tokenize_bins) AS tokenize_bins,
    sumMap(m.encode_bins) AS encode_bins,
    sumMap(m.decode_bins) AS decode_bins,
    sumMap(m.publish_bins) AS publish_bins,
    sumMap(m.end_to_end_bins) AS end_to_end_bins
FROM prediction_minutes AS m FINAL
WHERE toStartOfHour(m.minute) IN (SELECT hour FROM touched)
GROUP BY minute, tenant, channel, task, lane, model, revision, outcome, error_code
SETTINGS max_threads = 2;

-- What is computed anew is found among the hours themselves: there are few of them.
CREATE MATERIALIZED VIEW IF NOT EXISTS prediction_days_view
REFRESH EVERY 10 SECOND APPEND TO prediction_days AS
WITH touched AS
(
    SELECT parts.day AS day
    FROM
    (
        SELECT toDateTime(toStartOfDay(minute), 'UTC') AS day, max(version) AS version
        FROM prediction_hours
        GROUP BY day
    ) AS parts
    LEFT JOIN (SELECT minute AS day, max(version) AS version FROM prediction_days GROUP BY day) AS done ON done.day = parts.day
    WHERE parts.version > done.version - INTERVAL 60 SECOND
    ORDER BY parts.day > now() - INTERVAL 2 DAY DESC, done.version, parts.day DESC
    LIMIT 8
)
SELECT
    toDateTime(toStartOfDay(m.minute), 'UTC') AS minute,
    tenant, channel, task, lane, model, revision, outcome, error_code,
    now64(3) AS version,
    sum(m.predictions) AS predictions,
    sum(m.redelivered) AS redelivered,
    sum(m.summarized) AS summarized,
    sum(m.referenced) AS referenced,
    sum(m.end_to_end_ms_sum) AS end_to_end_ms_sum,
    max(m.end_to_end_ms_max) AS end_to_end_ms_max,
    sum(m.text_chars) AS text_chars,
    sum(m.text_tokens) AS text_tokens,
    sum(m.truncated_tokens) AS truncated_tokens,
    sum(m.summary_chars) AS summary_chars,
    sum(m.summary_tokens) AS summary_tokens,
    sum(m.reference_chars) AS reference_chars,
    sum(m.batch_size) AS batch_size,
    sum(m.padding_ratio) AS padding_ratio,
    sum(m.compression) AS compression,
    sum(m.compressed) AS compressed,
    sum(m.reference_compression) AS reference_compression,
    sum(m.signalled) AS signalled,
    sum(m.coverage) AS coverage,
    sum(m.density) AS density,
    sum(m.novel_bigrams) AS novel_bigrams,
    sum(m.repetition_rate) AS repetition_rate,
    sum(m.empty) AS empty,
    sum(m.truncated) AS truncated,
    sum(m.scored) AS scored,
    sum(m.rouge1_sum) AS rouge1_sum,
    sum(m.rouge1_squares) AS rouge1_squares,
    minIf(m.rouge1_min, arraySum(m.rouge1_bins) > 0) AS rouge1_min,
    max(m.rouge1_max) AS rouge1_max,
    sumForEach(m.rouge1_bins) AS rouge1_bins,
    sum(m.rouge2_sum) AS rouge2_sum,
    sum(m.rouge2_squares) AS rouge2_squares,
    minIf(m.rouge2_min, arraySum(m.rouge2_bins) > 0) AS rouge2_min,
    max(m.rouge2_max) AS rouge2_max,
    sumForEach(m.rouge2_bins) AS rouge2_bins,
    sum(m.rougeL_sum) AS rougeL_sum,
    sum(m.rougeL_squares) AS rougeL_squares,
    minIf(m.rougeL_min, arraySum(m.rougeL_bins) > 0) AS rougeL_min,
    max(m.rougeL_max) AS rougeL_max,
    sumForEach(m.rougeL_bins) AS rougeL_bins,
    sum(m.rougeLsum_sum) AS rougeLsum_sum,
    sum(m.rougeLsum_squares) AS rougeLsum_squares,
    minIf(m.rougeLsum_min, arraySum(m.rougeLsum_bins) > 0) AS rougeLsum_min,
    max(m.rougeLsum_max) AS rougeLsum_max,
    sumForEach(m.rougeLsum_bins) AS rougeLsum_bins,
    sum(m.bleu_sum) AS bleu_sum,
    sum(m.bleu_squares) AS bleu_squares,
    minIf(m.bleu_min, arraySum(m.bleu_bins) > 0) AS bleu_min,
    max(m.bleu_max) AS bleu_max,
    sumForEach(m.bleu_bins) AS bleu_bins,
    sumMap(m.queue_bins) AS queue_bins,
    sumMap(m.batch_wait_bins) AS batch_wait_bins,
    sumMap(m.tokenize_bins) AS tokenize_bins,
    sumMap(m.encode_bins) AS encode_bins,
    sumMap(m.decode_bins) AS decode_bins,
    sumMap(m.publish_bins) AS publish_bins,
    sumMap(m.end_to_end_bins) AS end_to_end_bins
FROM prediction_hours AS m FINAL
WHERE toStartOfDay(m.minute) IN (SELECT day FROM touched)
GROUP BY minute, tenant, channel, task, lane, model, revision, outcome, error_code
SETTINGS max_threads = 2;

-- Minutes whose histograms are to be computed.
INSERT INTO dirty_minutes
SELECT DISTINCT toDateTime(toStartOfMinute(finished_at), 'UTC'), now64(3)
FROM prediction_versions
WHERE finished_at > now() - INTERVAL 32 DAY;

-- The figures of a window, by ever wider steps from its edges to its middle: minutes, hours, days. Nothing wider than the
-- answer's own points is used: `bucket` is `minute`, `hour` or `day`, and `day` is right for an answer that has no points in
-- time. Each table is read by one or two ranges of its primary key. The window begins and ends at full minutes.
CREATE OR REPLACE VIEW figures AS
SELECT *
FROM prediction_minutes FINAL
WHERE minute >= toStartOfMinute({from:DateTime64(3, 'UTC')})
    AND minute < toDateTime({to:DateTime64(3, 'UTC')} + INTERVAL 999 MILLISECOND, 'UTC')
    AND (
        {bucket:String} = 'minute'
        OR minute < toStartOfHour({from:DateTime64(3, 'UTC')} + INTERVAL 3599999 MILLISECOND)
        OR minute >= toStartOfHour({to:DateTime64(3, 'UTC')})
    )
UNION ALL
SELECT *
FROM prediction_hours FINAL
WHERE {bucket:String} != 'minute'
    AND minute >= toStartOfHour({from:DateTime64(3, 'UTC')} + INTERVAL 3599999 MILLISECOND)
    AND minute < toStartOfHour({to:DateTime64(3, 'UTC')})
    AND (
        {bucket:String} = 'hour'
        OR minute < toStartOfDay({from:DateTime64(3, 'UTC')} + INTERVAL 86399999 MILLISECOND)
        OR minute >= toStartOfDay({to:DateTime64(3, 'UTC')})
    )
UNION ALL
SELECT *
FROM prediction_days FINAL
WHERE {bucket:String} = 'day'
    AND minute >= toStartOfDay({from:DateTime64(3, 'UTC')} + INTERVAL 86399999 MILLISECOND)
    AND minute < toStartOfDay({to:DateTime64(3, 'UTC')});
