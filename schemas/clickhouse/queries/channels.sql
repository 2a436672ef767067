-- By which way predictions came in, with their shares.
-- param from: time = now-1d; the window begins here
-- param to: time = now; and ends before this
-- param model: text = ''; only this model
-- param channel: text = ''; only what came in this way
-- param tenant: text = ''; only this account
SELECT
    channel,
    sum(predictions) AS count,
    count / sum(count) OVER () AS share,
    sum(summarized) AS summarized,
    sum(referenced) AS referenced
FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = 'day')
WHERE ({model:String} = '' OR model = {model:String})
    AND ({channel:String} = '' OR channel = {channel:String})
    AND ({tenant:String} = '' OR tenant = {tenant:String})
GROUP BY channel
ORDER BY count DESC, channel
