-- End-to-end latency over time, in milliseconds.
--
-- Percentiles are within 1 % of the exact value. Mean and maximum are exact.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
-- param bucket: minute|hour|day = hour; width of a time bucket
-- param model: text = ''; model to select; empty for all
-- param channel: api|local|mlflow|lambda|sagemaker|direct|batch|other = ''; channel to select; empty for all
-- param tenant: text = ''; tenant to select; empty for all
-- param outcome: all|succeeded|failed|cancelled|expired = all; outcome to select
-- param group_by: none|channel|model|tenant|lane|outcome = none; column by which the rows are grouped
WITH bin -> if(bin = 0, 0, 0.00099 * exp(bin * log(1.01 / 0.99))) AS ms_of
SELECT
    CAST(multiIf(
        {bucket:String} = 'minute', minute,
        {bucket:String} = 'hour', toDateTime(toStartOfHour(minute), 'UTC'),
        toDateTime(toStartOfDay(minute), 'UTC')
    ), 'DateTime(\'UTC\')') AS time,
    sum(predictions) AS count,
    sum(end_to_end_ms_sum) / sum(predictions) AS mean_ms,
    ms_of((quantilesExactWeightedArray(0.5, 0.95, 0.99)(mapKeys(end_to_end_bins), mapValues(end_to_end_bins)) AS percentiles)[1]) AS p50_ms,
    ms_of(percentiles[2]) AS p95_ms,
    ms_of(percentiles[3]) AS p99_ms,
    max(end_to_end_ms_max) AS max_ms,
    multiIf(
        {group_by:String} = 'channel', toString(channel),
        {group_by:String} = 'model', toString(model),
        {group_by:String} = 'tenant', toString(tenant),
        {group_by:String} = 'lane', toString(lane),
        {group_by:String} = 'outcome', toString(outcome),
        ''
    ) AS group
FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = {bucket:String})
WHERE ({model:String} = '' OR model = {model:String})
    AND ({channel:String} = '' OR channel = {channel:String})
    AND ({tenant:String} = '' OR tenant = {tenant:String})
    AND ({outcome:String} = 'all' OR outcome = {outcome:String})
GROUP BY time, group
ORDER BY time, group
