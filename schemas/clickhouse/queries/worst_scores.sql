-- The predictions with the worst scores, with their texts as far as they are kept.
--
-- From the rows themselves.
-- param from: time = now-1d; the window begins here
-- param to: time = now; and ends before this
-- param score: rouge1|rouge2|rougeL|rougeLsum|bleu = rouge1; which score
-- param limit: 1..1000 = 20; most rows
-- param model: text = ''; only this model
-- param channel: text = ''; only what came in this way
-- param tenant: text = ''; only this account
SELECT
    job_id,
    finished_at,
    model,
    channel,
    tenant,
    multiIf(
        {score:String} = 'rouge1', rouge1,
        {score:String} = 'rouge2', rouge2,
        {score:String} = 'rougeL', rougeL,
        {score:String} = 'rougeLsum', rougeLsum,
        bleu
    ) AS score,
    rouge1,
    rouge2,
    rougeL,
    bleu,
    summary,
    reference
FROM predictions
WHERE finished_at >= {from:DateTime64(3, 'UTC')} AND finished_at < {to:DateTime64(3, 'UTC')}
    AND ({model:String} = '' OR model = {model:String})
    AND ({channel:String} = '' OR channel = {channel:String})
    AND ({tenant:String} = '' OR tenant = {tenant:String})
    AND score IS NOT NULL
ORDER BY score, finished_at DESC, job_id
LIMIT {limit:UInt32}
