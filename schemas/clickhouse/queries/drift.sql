-- Distance of each model from its pinned baseline, one row per model, metric and day with enough predictions.
--
-- `psi` is the population stability index over the deciles of the baseline. Below 0.1 the distribution is stable; above
-- 0.2 it has shifted (Siddiqi 2006). `mean_shift` is in standard deviations of the baseline. `alert` is set when a
-- configured threshold is exceeded.
-- param from: time = now-30d; first day
-- param to: time = now; last day, inclusive
-- param model: text = ''; model to select; empty for all
-- param metric: text = ''; metric to select, such as text_chars, rouge1 or summary_embedding; empty for all
-- param alerts: all|only = all; whether to return all days, or only days with an alert
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
