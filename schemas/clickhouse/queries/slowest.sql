-- The slowest jobs, with where their time went.
--
-- From the rows themselves, of the hours that can have one of them. Each row of figures knows its slowest job, so that the
-- slowest of as many of these rows as are wanted bound the answer; where there are fewer rows, all jobs are looked at: those
-- of a few hours with the limit of a dashboard, of weeks with a limit of a thousand and one model, channel and tenant, which
-- takes seconds. Minutes that the window cuts are no part of a bound: their hours are read in any case, as are those that
-- have changed in the last two minutes, whose figures may not be computed yet. Times of a prediction never change, so that
-- FINAL is not needed to see each once.
-- param from: time = now-1d; the window begins here
-- param to: time = now; and ends before this
-- param limit: 1..1000 = 20; most rows
-- param model: text = ''; only this model
-- param channel: text = ''; only what came in this way
-- param tenant: text = ''; only this account
WITH
    -- Of the slowest rows of figures: how many, the least of their greatest times, and their hours.
    (
        SELECT (count(), min(slowest_ms), groupUniqArray(hour))
        FROM
        (
            SELECT toStartOfHour(minute) AS hour, end_to_end_ms_max AS slowest_ms
            FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = 'hour')
            WHERE ({model:String} = '' OR model = {model:String})
                AND ({channel:String} = '' OR channel = {channel:String})
                AND ({tenant:String} = '' OR tenant = {tenant:String})
                AND minute >= {from:DateTime64(3, 'UTC')}
                AND minute + INTERVAL 1 MINUTE <= {to:DateTime64(3, 'UTC')}
            ORDER BY slowest_ms DESC
            LIMIT {limit:UInt32} WITH TIES
        )
    ) AS slowest_rows,
    -- Fewer rows than are wanted bound nothing.
    if(slowest_rows.1 < {limit:UInt32}, -inf, slowest_rows.2) AS least_ms
SELECT
    job_id,
    finished_at,
    model,
    channel,
    lane,
    tenant,
    worker,
    outcome,
    attempt,
    end_to_end_ms,
    queue_ms,
    batch_wait_ms,
    encode_ms,
    decode_ms,
    publish_ms,
    text_tokens,
    summary_tokens
FROM prediction_versions
WHERE finished_at >= {from:DateTime64(3, 'UTC')} AND finished_at < {to:DateTime64(3, 'UTC')}
    AND ({model:String} = '' OR model = {model:String})
    AND ({channel:String} = '' OR channel = {channel:String})
    AND ({tenant:String} = '' OR tenant = {tenant:String})
    AND end_to_end_ms >= least_ms
    AND toStartOfHour(finished_at) IN
    (
        SELECT arrayJoin(slowest_rows.3)
        UNION ALL
        SELECT toDateTime(toStartOfHour(arrayJoin([{from:DateTime64(3, 'UTC')}, {to:DateTime64(3, 'UTC')}])), 'UTC')
        UNION ALL
        SELECT toStartOfHour(minute) FROM dirty_minutes WHERE marked_at > now() - INTERVAL 2 MINUTE
    )
ORDER BY end_to_end_ms DESC, finished_at DESC, job_id, version DESC
LIMIT 1 BY finished_at, job_id
LIMIT {limit:UInt32}
