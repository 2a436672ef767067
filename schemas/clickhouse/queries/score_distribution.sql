-- Counts of a score in twenty bins of equal width.
--
-- A bin includes `from` and excludes `to`. The last bin includes both.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
-- param score: rouge1|rouge2|rougeL|rougeLsum|bleu = rouge1; score to select
-- param model: text = ''; model to select; empty for all
-- param channel: api|local|mlflow|lambda|sagemaker|direct|batch|other = ''; channel to select; empty for all
-- param tenant: text = ''; tenant to select; empty for all
SELECT
    bin / 20 * top AS from,
    (bin + 1) / 20 * top AS to,
    count
FROM
(
    SELECT
        if({score:String} = 'bleu', 100, 1) AS top,
        -- A chain of `if` reads only the columns of the chosen score. `multiIf` would read all of them.
        sumForEach(
            if({score:String} = 'rouge1', rouge1_bins,
            if({score:String} = 'rouge2', rouge2_bins,
            if({score:String} = 'rougeL', rougeL_bins,
            if({score:String} = 'rougeLsum', rougeLsum_bins,
            bleu_bins))))
        ) AS bins
    FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = 'day')
    WHERE ({model:String} = '' OR model = {model:String})
        AND ({channel:String} = '' OR channel = {channel:String})
        AND ({tenant:String} = '' OR tenant = {tenant:String})
)
ARRAY JOIN bins AS count, arrayEnumerate(bins) AS position, range(toUInt64(length(bins))) AS bin
ORDER BY bin
