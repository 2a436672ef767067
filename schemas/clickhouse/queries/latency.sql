-- Latency percentiles by stage, in milliseconds.
--
-- Percentiles are within 1 % of the exact value. A stage that a job did not reach counts as 0. `outcome` can leave
-- out jobs that failed.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
-- param model: text = ''; model to select; empty for all
-- param channel: api|local|mlflow|lambda|sagemaker|direct|batch|other = ''; channel to select; empty for all
-- param tenant: text = ''; tenant to select; empty for all
-- param outcome: all|succeeded|failed|cancelled|expired = all; outcome to select
-- param group_by: none|channel|model|tenant|lane|outcome = none; column by which the rows are grouped
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
    ms_of(of_stage.2[4]) AS p99_ms,
    sum(predictions) AS count,
    multiIf(
        {group_by:String} = 'channel', toString(channel),
        {group_by:String} = 'model', toString(model),
        {group_by:String} = 'tenant', toString(tenant),
        {group_by:String} = 'lane', toString(lane),
        {group_by:String} = 'outcome', toString(outcome),
        ''
    ) AS group
FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = 'day')
WHERE ({model:String} = '' OR model = {model:String})
    AND ({channel:String} = '' OR channel = {channel:String})
    AND ({tenant:String} = '' OR tenant = {tenant:String})
    AND ({outcome:String} = 'all' OR outcome = {outcome:String})
GROUP BY group
ORDER BY group, indexOf(['queue', 'batch_wait', 'tokenize', 'encode', 'decode', 'publish', 'end_to_end'], stage)
