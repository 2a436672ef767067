-- Models side by side: speed, lengths, scores and signals.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
-- param model: text = ''; model to select; empty for all
-- param channel: api|local|mlflow|lambda|sagemaker|direct|batch|other = ''; channel to select; empty for all
-- param tenant: text = ''; tenant to select; empty for all
-- param outcome: all|succeeded|failed|cancelled|expired = all; outcome to select
WITH bin -> if(bin = 0, 0, 0.00099 * exp(bin * log(1.01 / 0.99))) AS ms_of
SELECT
    model,
    revision,
    sum(f.predictions) AS count,
    sum(f.summarized) / count AS success,
    ms_of((quantilesExactWeightedArray(0.5, 0.95)(mapKeys(f.end_to_end_bins), mapValues(f.end_to_end_bins)) AS end_to_end)[1]) AS p50_ms,
    ms_of(end_to_end[2]) AS p95_ms,
    ms_of(quantilesExactWeightedArray(0.5)(mapKeys(f.decode_bins), mapValues(f.decode_bins))[1]) AS decode_p50_ms,
    sum(f.summary_chars) / nullIf(sum(f.summarized), 0) AS summary_chars,
    sum(f.compression) / nullIf(sum(f.compressed), 0) AS compression,
    sum(f.coverage) / nullIf(sum(f.signalled), 0) AS coverage,
    sum(f.novel_bigrams) / nullIf(sum(f.signalled), 0) AS novel_bigrams,
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
GROUP BY model, revision
ORDER BY count DESC, model, revision
