-- The latest predictions, with the field names of the monitoring service that Precis replaces.
SELECT
    job_id AS prediction_id,
    formatDateTime(finished_at, '%Y-%m-%d %H:%i:%S') AS prediction_ts,
    text AS document,
    summary,
    reference AS reference_summary,
    if(metadata['model_source'] = '', channel, metadata['model_source']) AS model_source,
    bleu AS score_blue,
    rouge1 AS score_rouge1,
    rouge2 AS score_rouge2,
    rougeL AS score_rougeL
FROM predictions
WHERE outcome = 'succeeded'
    AND ({tenant:String} = '' OR tenant = {tenant:String})
ORDER BY finished_at DESC, job_id
LIMIT {num_record:UInt32}
