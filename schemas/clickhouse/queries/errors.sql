-- Errors by code and model, with their share of all predictions in the window.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
-- param model: text = ''; model to select; empty for all
-- param channel: text = ''; channel to select; empty for all
-- param tenant: text = ''; tenant to select; empty for all
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
