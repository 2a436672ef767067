-- Predictions by channel, with their shares.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
-- param model: text = ''; model to select; empty for all
-- param channel: text = ''; channel to select; empty for all
-- param tenant: text = ''; tenant to select; empty for all
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
