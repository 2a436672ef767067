-- Errors by code and model, with their share of all predictions of the window.
-- param from: time = now-1d; the window begins here
-- param to: time = now; and ends before this
-- param model: text = ''; only this model
-- param channel: text = ''; only what came in this way
-- param tenant: text = ''; only this account
SELECT
    error_code,
    model,
    sum(predictions) AS count,
    count / any(total) AS share,
    toDateTime(max(minute), 'UTC') AS last_seen
FROM
(
    SELECT
        error_code,
        model,
        minute,
        predictions,
        sum(predictions) OVER () AS total
    FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = 'hour')
    WHERE ({model:String} = '' OR model = {model:String})
        AND ({channel:String} = '' OR channel = {channel:String})
        AND ({tenant:String} = '' OR tenant = {tenant:String})
)
WHERE error_code != ''
GROUP BY error_code, model
ORDER BY count DESC, error_code, model
