-- Latency percentiles by stage, in milliseconds.
--
-- Off by at most one hundredth of the value. A stage that a job did not come to counts as 0.
-- param from: time = now-1d; the window begins here
-- param to: time = now; and ends before this
-- param model: text = ''; only this model
-- param channel: text = ''; only what came in this way
-- param tenant: text = ''; only this account
SELECT
    (arrayJoin(arrayZip(
        ['queue', 'batch_wait', 'tokenize', 'encode', 'decode', 'publish', 'end_to_end'],
        [
            quantilesDDMerge(0.01, 0.5, 0.9, 0.95, 0.99)(queue_ms),
            quantilesDDMerge(0.01, 0.5, 0.9, 0.95, 0.99)(batch_wait_ms),
            quantilesDDMerge(0.01, 0.5, 0.9, 0.95, 0.99)(tokenize_ms),
            quantilesDDMerge(0.01, 0.5, 0.9, 0.95, 0.99)(encode_ms),
            quantilesDDMerge(0.01, 0.5, 0.9, 0.95, 0.99)(decode_ms),
            quantilesDDMerge(0.01, 0.5, 0.9, 0.95, 0.99)(publish_ms),
            quantilesDDMerge(0.01, 0.5, 0.9, 0.95, 0.99)(end_to_end_ms)
        ]
    )) AS of_stage).1 AS stage,
    of_stage.2[1] AS p50_ms,
    of_stage.2[2] AS p90_ms,
    of_stage.2[3] AS p95_ms,
    of_stage.2[4] AS p99_ms
FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = 'hour')
WHERE ({model:String} = '' OR model = {model:String})
    AND ({channel:String} = '' OR channel = {channel:String})
    AND ({tenant:String} = '' OR tenant = {tenant:String})
HAVING sum(predictions) > 0
