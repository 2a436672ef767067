-- Predictions, the latest first: search, filters and pages.
--
-- `q` finds a phrase in texts and summaries, in any case, or a job's id; texts that are no longer stored are not found.
-- The next page starts after the `cursor` of the last row. Filters that a late reference can change apply to the latest
-- version of a prediction, and the others to any, so the query reads the table backwards and stops at `limit` rows.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
-- param limit: 1..1000 = 50; maximum number of rows
-- param after: text = ''; `cursor` of the row before the page; empty for the first page
-- param q: text = ''; phrase in the text or the summary, or a job's id
-- param model: text = ''; model to select; empty for all
-- param channel: api|local|mlflow|lambda|sagemaker|direct|batch|other = ''; channel to select; empty for all
-- param tenant: text = ''; tenant to select; empty for all
-- param lane: all|high|normal|bulk = all; priority to select
-- param task: all|summarize|score = all; task to select
-- param outcome: all|succeeded|failed|cancelled|expired = all; outcome to select
-- param error_code: text = ''; error code to select; empty for all
-- param batch: text = ''; id of the batch to select; empty for all
-- param worker: text = ''; worker to select; empty for all
-- param metadata: text = ''; `name=value` that the metadata contains; empty for all
-- param min_ms: number = ''; minimum time from submission to result, in milliseconds
-- param max_ms: number = ''; maximum time from submission to result, in milliseconds
-- param score: rouge1|rouge2|rougeL|rougeLsum|bleu = rouge1; score for `min_score` and `max_score`
-- param min_score: number = ''; minimum score, which leaves out predictions without one
-- param max_score: number = ''; maximum score, which leaves out predictions without one
WITH
    indexOf(splitByString('', {after:String}), '~') AS at,
    fromUnixTimestamp64Milli(toInt64OrZero(substring({after:String}, 1, at - 1)), 'UTC') AS after_time,
    substring({after:String}, at + 1) AS after_job,
    latest AS
    (
        SELECT
            finished_at,
            job_id,
            -- A chain of `if` reads only the chosen score.
            if({score:String} = 'rouge1', rouge1,
            if({score:String} = 'rouge2', rouge2,
            if({score:String} = 'rougeL', rougeL,
            if({score:String} = 'rougeLsum', rougeLsum,
            bleu)))) AS score
        FROM prediction_versions
        WHERE finished_at >= {from:DateTime64(3, 'UTC')} AND finished_at < {to:DateTime64(3, 'UTC')}
            AND ({after:String} = '' OR finished_at <= after_time)
            AND ({after:String} = '' OR (finished_at, job_id) < (after_time, after_job))
            AND ({model:String} = '' OR model = {model:String})
            AND ({channel:String} = '' OR channel = {channel:String})
            AND ({tenant:String} = '' OR tenant = {tenant:String})
            AND ({lane:String} = 'all' OR lane = {lane:String})
            AND ({task:String} = 'all' OR task = {task:String})
            AND ({outcome:String} = 'all' OR outcome = {outcome:String})
            AND ({error_code:String} = '' OR error_code = {error_code:String})
            AND ({batch:String} = '' OR batch_id = {batch:String})
            AND ({worker:String} = '' OR worker = {worker:String})
            AND ({metadata:String} = ''
                OR has(arrayMap((name, value) -> concat(name, '=', value), mapKeys(metadata), mapValues(metadata)), {metadata:String}))
            AND ({min_ms:String} = '' OR end_to_end_ms >= toFloat64OrZero({min_ms:String}))
            AND ({max_ms:String} = '' OR end_to_end_ms <= toFloat64OrZero({max_ms:String}))
            AND ({q:String} = ''
                OR positionCaseInsensitiveUTF8(summary, {q:String}) > 0
                OR positionCaseInsensitiveUTF8(text, {q:String}) > 0
                OR job_id = {q:String})
        ORDER BY finished_at DESC, job_id DESC, version DESC
        LIMIT 1 BY finished_at, job_id
    ),
    page AS
    (
        SELECT finished_at, job_id
        FROM latest
        WHERE ({min_score:String} = '' OR score >= toFloat64OrZero({min_score:String}))
            AND ({max_score:String} = '' OR score <= toFloat64OrZero({max_score:String}))
        ORDER BY finished_at DESC, job_id DESC
        LIMIT {limit:UInt32}
    )
SELECT
    concat(toString(toUnixTimestamp64Milli(finished_at)), '~', job_id) AS cursor,
    -- A prediction that did not come from the queue has no sequence.
    if(job_sequence = 0, job_id, concat(job_id, '.', toString(job_sequence))) AS id,
    job_id,
    submitted_at,
    finished_at,
    tenant,
    channel,
    task,
    lane,
    batch_id,
    outcome,
    error_code,
    error_message,
    model,
    worker,
    attempt,
    end_to_end_ms,
    queue_ms,
    text_chars,
    summary_chars,
    rouge1,
    rouge2,
    rougeL,
    rougeLsum,
    bleu,
    substringUTF8(text, 1, 300) AS text,
    substringUTF8(summary, 1, 1000) AS summary
FROM prediction_versions FINAL
PREWHERE (finished_at, job_id) IN (SELECT * FROM page)
WHERE {tenant:String} = '' OR tenant = {tenant:String}
ORDER BY finished_at DESC, job_id DESC
