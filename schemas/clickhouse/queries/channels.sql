-- Predictions by channel: shares, outcomes and mean scores.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
-- param model: text = ''; model to select; empty for all
-- param channel: api|local|mlflow|lambda|sagemaker|direct|batch|other = ''; channel to select; empty for all
-- param tenant: text = ''; tenant to select; empty for all
-- param outcome: all|succeeded|failed|cancelled|expired = all; outcome to select
SELECT
    channel,
    sum(predictions) AS count,
    count / sum(count) OVER () AS share,
    sum(f.summarized) AS summarized,
    sum(f.referenced) AS referenced,
    sumIf(predictions, outcome = 'failed') AS failed,
    sumIf(predictions, outcome = 'cancelled') AS cancelled,
    sumIf(predictions, outcome = 'expired') AS expired,
    sum(f.scored) AS scored,
    sum(rouge1_sum) / nullIf(sum(arraySum(rouge1_bins)), 0) AS rouge1,
    sum(rouge2_sum) / nullIf(sum(arraySum(rouge2_bins)), 0) AS rouge2,
    sum(rougeL_sum) / nullIf(sum(arraySum(rougeL_bins)), 0) AS rougeL,
    sum(bleu_sum) / nullIf(sum(arraySum(bleu_bins)), 0) AS bleu
FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = 'day') AS f
WHERE ({model:String} = '' OR model = {model:String})
    AND ({channel:String} = '' OR channel = {channel:String})
    AND ({tenant:String} = '' OR tenant = {tenant:String})
    AND ({outcome:String} = 'all' OR outcome = {outcome:String})
GROUP BY channel
ORDER BY count DESC, channel
