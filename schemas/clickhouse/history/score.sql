-- Count, minimum, mean, maximum and sample standard deviation of each score, per hour, day or month.
SELECT
    formatDateTime(multiIf(
        {freq:String} = 'Hour', toDateTime(toStartOfHour(finished_at), 'UTC'),
        {freq:String} = 'Day', toDateTime(toStartOfDay(finished_at), 'UTC'),
        toDateTime(toStartOfMonth(finished_at), 'UTC')
    ), '%Y-%m-%d %H:%i:%S') AS prediction_dt,
    count() AS num_record,
    min(bleu) AS min_blue,
    avg(bleu) AS avg_blue,
    max(bleu) AS max_blue,
    if(count(bleu) > 1, stddevSampStable(bleu), NULL) AS std_blue,
    min(rouge1) AS min_rouge1,
    avg(rouge1) AS avg_rouge1,
    max(rouge1) AS max_rouge1,
    if(count(rouge1) > 1, stddevSampStable(rouge1), NULL) AS std_rouge1,
    min(rouge2) AS min_rouge2,
    avg(rouge2) AS avg_rouge2,
    max(rouge2) AS max_rouge2,
    if(count(rouge2) > 1, stddevSampStable(rouge2), NULL) AS std_rouge2,
    min(rougeL) AS min_rougeL,
    avg(rougeL) AS avg_rougeL,
    max(rougeL) AS max_rougeL,
    if(count(rougeL) > 1, stddevSampStable(rougeL), NULL) AS std_rougeL
FROM predictions
WHERE outcome = 'succeeded' AND rouge1 IS NOT NULL
    AND ({tenant:String} = '' OR tenant = {tenant:String})
    AND finished_at >= {last_ts:DateTime64(3, 'UTC')} AND finished_at <= {cur_ts:DateTime64(3, 'UTC')}
GROUP BY prediction_dt
ORDER BY prediction_dt
