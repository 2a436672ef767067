-- How a score is distributed: counts in twenty bins of equal width.
--
-- A bin holds what is at least `from` and below `to`; the last one also what is equal to `to`.
-- param from: time = now-1d; the window begins here
-- param to: time = now; and ends before this
-- param score: rouge1|rouge2|rougeL|rougeLsum|bleu = rouge1; which score
-- param model: text = ''; only this model
-- param channel: text = ''; only what came in this way
-- param tenant: text = ''; only this account
SELECT
    bin / 20 * top AS from,
    (bin + 1) / 20 * top AS to,
    count
FROM
(
    SELECT
        if({score:String} = 'bleu', 100, 1) AS top,
        -- Of a chain of `if` only what is chosen is read; of `multiIf` all would be.
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
