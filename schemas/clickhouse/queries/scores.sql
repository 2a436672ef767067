-- Count, mean, minimum, maximum and sample standard deviation of a score over time.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
-- param bucket: minute|hour|day = hour; width of a time bucket
-- param score: rouge1|rouge2|rougeL|rougeLsum|bleu = rouge1; score to select
-- param model: text = ''; model to select; empty for all
-- param channel: api|local|mlflow|lambda|sagemaker|direct|batch|other = ''; channel to select; empty for all
-- param tenant: text = ''; tenant to select; empty for all
-- param group_by: none|channel|model|tenant|lane = none; column by which the rows are grouped
SELECT
    time,
    sum(arraySum(bins)) AS count,
    sum(total) / count AS mean,
    minIf(least, arraySum(bins) > 0) AS min,
    maxIf(greatest, arraySum(bins) > 0) AS max,
    if(count > 1, sqrt(greatest(0, sum(squares) - count * mean * mean) / (count - 1)), NULL) AS deviation,
    group
FROM
(
    -- A chain of `if` reads only the columns of the chosen score. `multiIf` would read all of them.
    SELECT
        CAST(multiIf(
            {bucket:String} = 'minute', minute,
            {bucket:String} = 'hour', toDateTime(toStartOfHour(minute), 'UTC'),
            toDateTime(toStartOfDay(minute), 'UTC')
        ), 'DateTime(\'UTC\')') AS time,
        multiIf(
            {group_by:String} = 'channel', toString(channel),
            {group_by:String} = 'model', toString(model),
            {group_by:String} = 'tenant', toString(tenant),
            {group_by:String} = 'lane', toString(lane),
            ''
        ) AS group,
        if({score:String} = 'rouge1', rouge1_bins,
        if({score:String} = 'rouge2', rouge2_bins,
        if({score:String} = 'rougeL', rougeL_bins,
        if({score:String} = 'rougeLsum', rougeLsum_bins,
        bleu_bins)))) AS bins,
        if({score:String} = 'rouge1', rouge1_sum,
        if({score:String} = 'rouge2', rouge2_sum,
        if({score:String} = 'rougeL', rougeL_sum,
        if({score:String} = 'rougeLsum', rougeLsum_sum,
        bleu_sum)))) AS total,
        if({score:String} = 'rouge1', rouge1_squares,
        if({score:String} = 'rouge2', rouge2_squares,
        if({score:String} = 'rougeL', rougeL_squares,
        if({score:String} = 'rougeLsum', rougeLsum_squares,
        bleu_squares)))) AS squares,
        if({score:String} = 'rouge1', rouge1_min,
        if({score:String} = 'rouge2', rouge2_min,
        if({score:String} = 'rougeL', rougeL_min,
        if({score:String} = 'rougeLsum', rougeLsum_min,
        bleu_min)))) AS least,
        if({score:String} = 'rouge1', rouge1_max,
        if({score:String} = 'rouge2', rouge2_max,
        if({score:String} = 'rougeL', rougeL_max,
        if({score:String} = 'rougeLsum', rougeLsum_max,
        bleu_max)))) AS greatest
    FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = {bucket:String})
    WHERE ({model:String} = '' OR model = {model:String})
        AND ({channel:String} = '' OR channel = {channel:String})
        AND ({tenant:String} = '' OR tenant = {tenant:String})
)
GROUP BY time, group
HAVING count > 0
ORDER BY time, group
