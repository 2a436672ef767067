-- How many predictions match the filters of the list.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
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
SELECT count() AS count
FROM
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
    )
WHERE ({min_score:String} = '' OR score >= toFloat64OrZero({min_score:String}))
    AND ({max_score:String} = '' OR score <= toFloat64OrZero({max_score:String}))
