-- Exact windows: the rollups of whole minutes, hours and days, and the rows themselves where the window cuts a minute.

-- Minute rollups before this hour may have expired. The monitor sets the configured days.
CREATE OR REPLACE VIEW rollup_horizon AS
SELECT toStartOfHour(now('UTC') - INTERVAL 30 DAY) AS since;

-- The figures of a window, exact to the millisecond, by wider steps from its edges to its middle: rows, minutes, hours,
-- days. `bucket` is `minute`, `hour` or `day`, the widest step that the answer can use; `day` is right for an answer
-- without points in time. Each row has at least one prediction, and all its predictions are in the window. `minute` is
-- the start of the row's minute, hour or day, so it can lie before `from`.
--
-- Where minute rollups may have expired, rows take the place of the minutes too.
CREATE OR REPLACE VIEW figures AS
WITH ms -> toUInt16(if(ms > 0.001, least(65535, ceil(log(ms / 0.001) / log(1.01 / 0.99))), 0)) AS bin_of
SELECT
    toDateTime(toStartOfMinute(finished_at), 'UTC') AS minute,
    tenant, channel, task, lane, model, revision, outcome, error_code,
    now64(3, 'UTC') AS version,
    toUInt64(1) AS predictions,
    toUInt64(row.attempt > 1) AS redelivered,
    toUInt64(row.outcome = 'succeeded') AS summarized,
    toUInt64(row.reference_chars > 0) AS referenced,
    end_to_end_ms AS end_to_end_ms_sum,
    end_to_end_ms AS end_to_end_ms_max,
    toUInt64(row.text_chars) AS text_chars,
    toUInt64(row.text_tokens) AS text_tokens,
    toUInt64(row.truncated_tokens) AS truncated_tokens,
    toUInt64(row.summary_chars) AS summary_chars,
    toUInt64(row.summary_tokens) AS summary_tokens,
    toUInt64(row.reference_chars) AS reference_chars,
    toUInt64(row.batch_size) AS batch_size,
    toFloat64(row.padding_ratio) AS padding_ratio,
    if(row.summary_chars > 0, row.text_chars / row.summary_chars, 0) AS compression,
    toUInt64(row.summary_chars > 0) AS compressed,
    if(row.reference_chars > 0, row.text_chars / row.reference_chars, 0) AS reference_compression,
    toUInt64(isNotNull(row.coverage)) AS signalled,
    ifNull(toFloat64(row.coverage), 0) AS coverage,
    ifNull(toFloat64(row.density), 0) AS density,
    ifNull(toFloat64(row.novel_bigrams), 0) AS novel_bigrams,
    ifNull(toFloat64(row.repetition_rate), 0) AS repetition_rate,
    toUInt64(ifNull(row.is_empty, false)) AS empty,
    toUInt64(ifNull(row.is_truncated, false)) AS truncated,
    toUInt64(isNotNull(row.rouge1)) AS scored,
    ifNull(row.rouge1, 0) AS rouge1_sum,
    ifNull(row.rouge1 * row.rouge1, 0) AS rouge1_squares,
    ifNull(row.rouge1, 0) AS rouge1_min,
    ifNull(row.rouge1, 0) AS rouge1_max,
    arrayResize(if(isNull(row.rouge1), emptyArrayUInt64(), arrayPushBack(arrayWithConstant(least(19, toUInt8(assumeNotNull(row.rouge1) * 20)), toUInt64(0)), toUInt64(1))), 20) AS rouge1_bins,
    ifNull(row.rouge2, 0) AS rouge2_sum,
    ifNull(row.rouge2 * row.rouge2, 0) AS rouge2_squares,
    ifNull(row.rouge2, 0) AS rouge2_min,
    ifNull(row.rouge2, 0) AS rouge2_max,
    arrayResize(if(isNull(row.rouge2), emptyArrayUInt64(), arrayPushBack(arrayWithConstant(least(19, toUInt8(assumeNotNull(row.rouge2) * 20)), toUInt64(0)), toUInt64(1))), 20) AS rouge2_bins,
    ifNull(row.rougeL, 0) AS rougeL_sum,
    ifNull(row.rougeL * row.rougeL, 0) AS rougeL_squares,
    ifNull(row.rougeL, 0) AS rougeL_min,
    ifNull(row.rougeL, 0) AS rougeL_max,
    arrayResize(if(isNull(row.rougeL), emptyArrayUInt64(), arrayPushBack(arrayWithConstant(least(19, toUInt8(assumeNotNull(row.rougeL) * 20)), toUInt64(0)), toUInt64(1))), 20) AS rougeL_bins,
    ifNull(row.rougeLsum, 0) AS rougeLsum_sum,
    ifNull(row.rougeLsum * row.rougeLsum, 0) AS rougeLsum_squares,
    ifNull(row.rougeLsum, 0) AS rougeLsum_min,
    ifNull(row.rougeLsum, 0) AS rougeLsum_max,
    arrayResize(if(isNull(row.rougeLsum), emptyArrayUInt64(), arrayPushBack(arrayWithConstant(least(19, toUInt8(assumeNotNull(row.rougeLsum) * 20)), toUInt64(0)), toUInt64(1))), 20) AS rougeLsum_bins,
    ifNull(row.bleu, 0) AS bleu_sum,
    ifNull(row.bleu * row.bleu, 0) AS bleu_squares,
    ifNull(row.bleu, 0) AS bleu_min,
    ifNull(row.bleu, 0) AS bleu_max,
    arrayResize(if(isNull(row.bleu), emptyArrayUInt64(), arrayPushBack(arrayWithConstant(least(19, toUInt8(assumeNotNull(row.bleu) / 5)), toUInt64(0)), toUInt64(1))), 20) AS bleu_bins,
    map(bin_of(row.queue_ms), toUInt32(1)) AS queue_bins,
    map(bin_of(row.batch_wait_ms), toUInt32(1)) AS batch_wait_bins,
    map(bin_of(row.tokenize_ms), toUInt32(1)) AS tokenize_bins,
    map(bin_of(row.encode_ms), toUInt32(1)) AS encode_bins,
    map(bin_of(row.decode_ms), toUInt32(1)) AS decode_bins,
    map(bin_of(row.publish_ms), toUInt32(1)) AS publish_bins,
    map(bin_of(row.end_to_end_ms), toUInt32(1)) AS end_to_end_bins
FROM prediction_versions AS row FINAL
WHERE finished_at >= {from:DateTime64(3, 'UTC')}
    AND finished_at < {to:DateTime64(3, 'UTC')}
    AND (
        finished_at < toDateTime64(toStartOfMinute({from:DateTime64(3, 'UTC')} + INTERVAL 59999 MILLISECOND), 3, 'UTC')
        OR finished_at >= toDateTime64(toStartOfMinute({to:DateTime64(3, 'UTC')}), 3, 'UTC')
        OR (
            finished_at < toDateTime64((SELECT since FROM rollup_horizon), 3, 'UTC')
            AND (
                {bucket:String} = 'minute'
                OR finished_at < toDateTime64(toStartOfHour({from:DateTime64(3, 'UTC')} + INTERVAL 3599999 MILLISECOND), 3, 'UTC')
                OR finished_at >= toDateTime64(toStartOfHour({to:DateTime64(3, 'UTC')}), 3, 'UTC')
            )
        )
    )
UNION ALL
SELECT *
FROM prediction_minutes FINAL
WHERE minute >= toStartOfMinute({from:DateTime64(3, 'UTC')} + INTERVAL 59999 MILLISECOND)
    AND minute < toStartOfMinute({to:DateTime64(3, 'UTC')})
    AND minute >= (SELECT since FROM rollup_horizon)
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
