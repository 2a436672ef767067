-- How far each model was from its pinned baseline, a row for each day, model and figure.
--
-- `psi` is the population stability index over the baseline's deciles: below 0.1 nothing has changed, above
-- 0.2 much has (Siddiqi 2006). `mean_shift` is in standard deviations of the baseline. `alert` is set beyond
-- the thresholds of the configuration.
-- param from: time = now-30d; days from this one on
-- param to: time = now; up to this one
-- param model: text = ''; only this model
-- param metric: text = ''; only this figure, such as text_chars, rouge1 or summary_embedding
-- param alerts: all|only = all; all days, or only those with an alert
SELECT
    day,
    model,
    metric,
    rows,
    mean,
    deviation,
    psi,
    mean_shift,
    alert
FROM drift_days FINAL
WHERE day >= toDate({from:DateTime64(3, 'UTC')}) AND day <= toDate({to:DateTime64(3, 'UTC')})
    AND ({model:String} = '' OR model = {model:String})
    AND ({metric:String} = '' OR metric = {metric:String})
    AND ({alerts:String} = 'all' OR alert)
ORDER BY day, model, metric
