-- The predictions with the lowest scores, with their texts if kept.
--
-- Reads only the hours that can contain one of them. Each rollup row holds its lowest score, and the query selects the
-- hours of the `limit` lowest. Hours that changed in the last two minutes are always read, because their rollups may be
-- out of date.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
-- param score: rouge1|rouge2|rougeL|rougeLsum|bleu = rouge1; score to select
-- param limit: 1..1000 = 20; maximum number of rows
-- param model: text = ''; model to select; empty for all
-- param channel: api|local|mlflow|lambda|sagemaker|direct|batch|other = ''; channel to select; empty for all
-- param tenant: text = ''; tenant to select; empty for all
WITH
    hours AS
    (
        SELECT toStartOfHour(minute)
        FROM
        (
            SELECT
                minute,
                -- A chain of `if` reads only the columns of the chosen score. `multiIf` would read all of them.
                if({score:String} = 'rouge1', rouge1_min,
                if({score:String} = 'rouge2', rouge2_min,
                if({score:String} = 'rougeL', rougeL_min,
                if({score:String} = 'rougeLsum', rougeLsum_min,
                bleu_min)))) AS least
            FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = 'hour')
            WHERE ({model:String} = '' OR model = {model:String})
                AND ({channel:String} = '' OR channel = {channel:String})
                AND ({tenant:String} = '' OR tenant = {tenant:String})
                AND arraySum(
                    if({score:String} = 'rouge1', rouge1_bins,
                    if({score:String} = 'rouge2', rouge2_bins,
                    if({score:String} = 'rougeL', rougeL_bins,
                    if({score:String} = 'rougeLsum', rougeLsum_bins,
                    bleu_bins))))
                ) > 0
            ORDER BY least, minute DESC
            LIMIT {limit:UInt32} WITH TIES
        )
        UNION ALL
        SELECT toStartOfHour(minute)
        FROM dirty_minutes
        WHERE marked_at > now() - INTERVAL 2 MINUTE
    ),
    worst AS
    (
        SELECT finished_at, job_id
        FROM
        (
            SELECT
                finished_at,
                job_id,
                if({score:String} = 'rouge1', rouge1,
                if({score:String} = 'rouge2', rouge2,
                if({score:String} = 'rougeL', rougeL,
                if({score:String} = 'rougeLsum', rougeLsum,
                bleu)))) AS score
            FROM predictions
            WHERE finished_at >= {from:DateTime64(3, 'UTC')} AND finished_at < {to:DateTime64(3, 'UTC')}
                AND ({model:String} = '' OR model = {model:String})
                AND ({channel:String} = '' OR channel = {channel:String})
                AND ({tenant:String} = '' OR tenant = {tenant:String})
                AND toStartOfHour(finished_at) IN (SELECT * FROM hours)
        )
        WHERE score IS NOT NULL
        ORDER BY score, finished_at DESC, job_id
        LIMIT {limit:UInt32}
    )
SELECT
    job_id,
    finished_at,
    model,
    channel,
    tenant,
    if({score:String} = 'rouge1', rouge1,
    if({score:String} = 'rouge2', rouge2,
    if({score:String} = 'rougeL', rougeL,
    if({score:String} = 'rougeLsum', rougeLsum,
    bleu)))) AS score,
    rouge1,
    rouge2,
    rougeL,
    bleu,
    summary,
    reference
FROM prediction_versions FINAL
PREWHERE (finished_at, job_id) IN (SELECT * FROM worst)
ORDER BY score, finished_at DESC, job_id
