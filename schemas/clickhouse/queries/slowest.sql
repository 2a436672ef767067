-- The slowest jobs, with where their time went.
--
-- From the rows themselves. Times of a prediction never change, so that FINAL is not needed to see each once.
-- param from: time = now-1d; the window begins here
-- param to: time = now; and ends before this
-- param limit: 1..1000 = 20; most rows
-- param model: text = ''; only this model
-- param channel: text = ''; only what came in this way
-- param tenant: text = ''; only this account
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
ORDER BY end_to_end_ms DESC, finished_at DESC, job_id, version DESC
LIMIT 1 BY finished_at, job_id
LIMIT {limit:UInt32}
