-- Latency percentiles by stage, in milliseconds.
--
-- Off by at most one hundredth of the value. A stage that a job did not come to counts as 0.
-- param from: time = now-1d; the window begins here
-- param to: time = now; and ends before this
-- param model: text = ''; only this model
-- param channel: text = ''; only what came in this way
-- param tenant: text = ''; only this account
WITH bin -> if(bin = 0, 0, 0.00099 * exp(bin * log(1.01 / 0.99))) AS ms_of
SELECT
    (arrayJoin(arrayZip(
        ['queue', 'batch_wait', 'tokenize', 'encode', 'decode', 'publish', 'end_to_end'],
        [
            quantilesExactWeightedArray(0.5, 0.9, 0.95, 0.99)(mapKeys(queue_bins), mapValues(queue_bins)),
            quantilesExactWeightedArray(0.5, 0.9, 0.95, 0.99)(mapKeys(batch_wait_bins), mapValues(batch_wait_bins)),
            quantilesExactWeightedArray(0.5, 0.9, 0.95, 0.99)(mapKeys(tokenize_bins), mapValues(tokenize_bins)),
            quantilesExactWeightedArray(0.5, 0.9, 0.95, 0.99)(mapKeys(encode_bins), mapValues(encode_bins)),
            quantilesExactWeightedArray(0.5, 0.9, 0.95, 0.99)(mapKeys(decode_bins), mapValues(decode_bins)),
            quantilesExactWeightedArray(0.5, 0.9, 0.95, 0.99)(mapKeys(publish_bins), mapValues(publish_bins)),
            quantilesExactWeightedArray(0.5, 0.9, 0.95, 0.99)(mapKeys(end_to_end_bins), mapValues(end_to_end_bins))
        ]
    )) AS of_stage).1 AS stage,
    ms_of(of_stage.2[1]) AS p50_ms,
    ms_of(of_stage.2[2]) AS p90_ms,
    ms_of(of_stage.2[3]) AS p95_ms,
    ms_of(of_stage.2[4]) AS p99_ms
FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = 'day')
WHERE ({model:String} = '' OR model = {model:String})
    AND ({channel:String} = '' OR channel = {channel:String})
    AND ({tenant:String} = '' OR tenant = {tenant:String})
HAVING sum(predictions) > 0
