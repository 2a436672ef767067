-- The latest predictions, with the beginning of their texts if kept.
--
-- Reads rows, not rollups. The rollups only determine how far back the query has to read.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
-- param limit: 1..1000 = 10; maximum number of rows
-- param model: text = ''; model to select; empty for all
-- param channel: api|local|mlflow|lambda|sagemaker|direct|batch|other = ''; channel to select; empty for all
-- param tenant: text = ''; tenant to select; empty for all
-- param outcome: all|succeeded|failed|cancelled|expired = all; outcome to select
WITH
    (
        -- Fewer rollup rows than `limit` give no bound.
        SELECT if(count() < {limit:UInt32}, {from:DateTime64(3, 'UTC')}, toDateTime64(min(minute), 3, 'UTC'))
        FROM
        (
            SELECT minute
            FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = 'hour')
            WHERE ({model:String} = '' OR model = {model:String})
                AND ({channel:String} = '' OR channel = {channel:String})
                AND ({tenant:String} = '' OR tenant = {tenant:String})
                AND ({outcome:String} = 'all' OR outcome = {outcome:String})
            ORDER BY minute DESC
            LIMIT {limit:UInt32}
        )
    ) AS since,
    latest AS
    (
        SELECT finished_at, job_id
        FROM predictions
        WHERE finished_at >= {from:DateTime64(3, 'UTC')} AND finished_at < {to:DateTime64(3, 'UTC')}
            AND ({model:String} = '' OR model = {model:String})
            AND ({channel:String} = '' OR channel = {channel:String})
            AND ({tenant:String} = '' OR tenant = {tenant:String})
            AND ({outcome:String} = 'all' OR outcome = {outcome:String})
            AND finished_at >= since
        ORDER BY finished_at DESC, job_id
        LIMIT {limit:UInt32}
    )
SELECT
    job_id,
    finished_at,
    tenant,
    channel,
    model,
    outcome,
    error_code,
    end_to_end_ms,
    text_chars,
    summary_chars,
    reference_chars,
    rouge1,
    rouge2,
    rougeL,
    bleu,
    substringUTF8(text, 1, 200) AS text,
    substringUTF8(summary, 1, 1000) AS summary,
    substringUTF8(reference, 1, 1000) AS reference
FROM prediction_versions FINAL
PREWHERE (finished_at, job_id) IN (SELECT * FROM latest)
ORDER BY finished_at DESC, job_id
