-- Latency from end to end over time, in milliseconds.
--
-- Percentiles are off by at most one hundredth of the value; mean and maximum are exact.
-- param from: time = now-1d; the window begins here
-- param to: time = now; and ends before this
-- param bucket: minute|hour|day = hour; width of a point
-- param model: text = ''; only this model
-- param channel: text = ''; only what came in this way
-- param tenant: text = ''; only this account
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
    max(end_to_end_ms_max) AS max_ms
FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = {bucket:String})
WHERE ({model:String} = '' OR model = {model:String})
    AND ({channel:String} = '' OR channel = {channel:String})
    AND ({tenant:String} = '' OR tenant = {tenant:String})
GROUP BY time
ORDER BY time
