-- The latest predictions, with the beginning of their texts as far as they are kept.
--
-- From the rows themselves, since the last minutes or hours that have as many by their figures.
-- param from: time = now-1d; the window begins here
-- param to: time = now; and ends before this
-- param limit: 1..1000 = 10; most rows
-- param model: text = ''; only this model
-- param channel: text = ''; only what came in this way
-- param tenant: text = ''; only this account
WITH
    (
        SELECT min(minute)
        FROM
        (
            SELECT minute
            FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = 'hour')
            WHERE ({model:String} = '' OR model = {model:String})
                AND ({channel:String} = '' OR channel = {channel:String})
                AND ({tenant:String} = '' OR tenant = {tenant:String})
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
