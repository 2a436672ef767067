-- The slowest jobs, with the time of each stage.
--
-- Reads only the hours that can contain one of them. Each rollup row holds the time of its slowest job, so the slowest
-- `limit` rollup rows give a lower bound for the answer. With fewer rollup rows than `limit`, the query reads every job
-- in the window. That is a few hours at the default limit, and can be weeks at a limit of 1000 with one model, channel
-- and tenant, which takes seconds. Hours that changed in the last two minutes are always read, because their rollups
-- may be out of date. The times of a prediction never change, so the query needs no FINAL.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
-- param limit: 1..1000 = 20; maximum number of rows
-- param model: text = ''; model to select; empty for all
-- param channel: api|local|mlflow|lambda|sagemaker|direct|batch|other = ''; channel to select; empty for all
-- param tenant: text = ''; tenant to select; empty for all
-- param outcome: all|succeeded|failed|cancelled|expired = all; outcome to select
WITH
    -- The slowest rollup rows: their count, the lowest of their maximum times, and their hours.
    (
        SELECT (count(), min(slowest_ms), groupUniqArray(hour))
        FROM
        (
            SELECT toStartOfHour(minute) AS hour, end_to_end_ms_max AS slowest_ms
            FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = 'hour')
            WHERE ({model:String} = '' OR model = {model:String})
                AND ({channel:String} = '' OR channel = {channel:String})
                AND ({tenant:String} = '' OR tenant = {tenant:String})
                AND ({outcome:String} = 'all' OR outcome = {outcome:String})
            ORDER BY slowest_ms DESC
            LIMIT {limit:UInt32} WITH TIES
        )
    ) AS slowest_rows,
    -- Fewer rollup rows than `limit` give no bound.
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
    AND ({outcome:String} = 'all' OR outcome = {outcome:String})
    AND end_to_end_ms >= least_ms
    AND toStartOfHour(finished_at) IN
    (
        SELECT arrayJoin(slowest_rows.3)
        UNION ALL
        SELECT toStartOfHour(minute) FROM dirty_minutes WHERE marked_at > now() - INTERVAL 2 MINUTE
    )
ORDER BY end_to_end_ms DESC, finished_at DESC, job_id, version DESC
LIMIT 1 BY finished_at, job_id
LIMIT {limit:UInt32}
