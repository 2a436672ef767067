-- Predictions over time, by outcome and channel.
--
-- `redelivered` are those that more than one worker was given.
-- param from: time = now-1d; the window begins here
-- param to: time = now; and ends before this
-- param bucket: minute|hour|day = hour; width of a point
-- param model: text = ''; only this model
-- param channel: text = ''; only what came in this way
-- param tenant: text = ''; only this account
SELECT
    CAST(multiIf(
        {bucket:String} = 'minute', minute,
        {bucket:String} = 'hour', toDateTime(toStartOfHour(minute), 'UTC'),
        toDateTime(toStartOfDay(minute), 'UTC')
    ), 'DateTime(\'UTC\')') AS time,
    outcome,
    channel,
    sum(predictions) AS count,
    sum(redelivered) AS redelivered
FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = {bucket:String})
WHERE ({model:String} = '' OR model = {model:String})
    AND ({channel:String} = '' OR channel = {channel:String})
    AND ({tenant:String} = '' OR tenant = {tenant:String})
GROUP BY time, outcome, channel
ORDER BY time, outcome, channel
