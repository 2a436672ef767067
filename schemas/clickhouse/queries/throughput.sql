-- Predictions over time, by outcome and channel.
--
-- `redelivered` counts predictions whose job was delivered more than once.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
-- param bucket: minute|hour|day = hour; width of a time bucket
-- param model: text = ''; model to select; empty for all
-- param channel: api|local|mlflow|lambda|sagemaker|direct|batch|other = ''; channel to select; empty for all
-- param tenant: text = ''; tenant to select; empty for all
-- param outcome: all|succeeded|failed|cancelled|expired = all; outcome to select
-- param group_by: none|model|tenant|lane = none; further column by which the rows are grouped
SELECT
    CAST(multiIf(
        {bucket:String} = 'minute', minute,
        {bucket:String} = 'hour', toDateTime(toStartOfHour(minute), 'UTC'),
        toDateTime(toStartOfDay(minute), 'UTC')
    ), 'DateTime(\'UTC\')') AS time,
    outcome,
    channel,
    sum(predictions) AS count,
    sum(redelivered) AS redelivered,
    multiIf(
        {group_by:String} = 'model', toString(model),
        {group_by:String} = 'tenant', toString(tenant),
        {group_by:String} = 'lane', toString(lane),
        ''
    ) AS group
FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = {bucket:String})
WHERE ({model:String} = '' OR model = {model:String})
    AND ({channel:String} = '' OR channel = {channel:String})
    AND ({tenant:String} = '' OR tenant = {tenant:String})
    AND ({outcome:String} = 'all' OR outcome = {outcome:String})
GROUP BY time, outcome, channel, group
ORDER BY time, outcome, channel, group
