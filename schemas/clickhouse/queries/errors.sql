-- Errors by code and model, with their share of all predictions in the window.
--
-- Rollups count the errors and find the last hour of each. Its rows give `last_seen`, to the millisecond.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
-- param model: text = ''; model to select; empty for all
-- param channel: api|local|mlflow|lambda|sagemaker|direct|batch|other = ''; channel to select; empty for all
-- param tenant: text = ''; tenant to select; empty for all
SELECT
    error_code,
    model,
    counted.count AS count,
    counted.share AS share,
    greatest(latest.last_seen, toDateTime64(counted.hour, 3, 'UTC')) AS last_seen
FROM
(
    SELECT
        error_code,
        model,
        sum(predictions) AS count,
        count / any(total) AS share,
        toStartOfHour(max(minute)) AS hour
    FROM
    (
        SELECT error_code, model, minute, predictions, sum(predictions) OVER () AS total
        FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = 'hour')
        WHERE ({model:String} = '' OR model = {model:String})
            AND ({channel:String} = '' OR channel = {channel:String})
            AND ({tenant:String} = '' OR tenant = {tenant:String})
    )
    WHERE error_code != ''
    GROUP BY error_code, model
) AS counted
LEFT JOIN
(
    SELECT error_code, model, max(finished_at) AS last_seen
    FROM prediction_versions
    WHERE finished_at >= {from:DateTime64(3, 'UTC')} AND finished_at < {to:DateTime64(3, 'UTC')}
        AND error_code != ''
        AND ({model:String} = '' OR model = {model:String})
        AND ({channel:String} = '' OR channel = {channel:String})
        AND ({tenant:String} = '' OR tenant = {tenant:String})
        AND toStartOfHour(finished_at) IN
        (
            SELECT toStartOfHour(max(minute))
            FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = 'hour')
            WHERE error_code != ''
                AND ({model:String} = '' OR model = {model:String})
                AND ({channel:String} = '' OR channel = {channel:String})
                AND ({tenant:String} = '' OR tenant = {tenant:String})
            GROUP BY error_code, model
        )
    GROUP BY error_code, model
) AS latest USING (error_code, model)
ORDER BY count DESC, error_code, model
