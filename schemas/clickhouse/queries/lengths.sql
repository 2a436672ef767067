-- Lengths and compression over time, of the model's summaries and of the references.
--
-- Means over the predictions that have a summary, or a reference. Compression is characters of the text by
-- character of the summary.
-- param from: time = now-1d; the window begins here
-- param to: time = now; and ends before this
-- param bucket: minute|hour|day = hour; width of a point
-- param model: text = ''; only this model
-- param channel: text = ''; only what came in this way
-- param tenant: text = ''; only this account
SELECT
    CAST(multiIf(
        {bucket:String} = 'minute', minute,
        {bucket:String} = 'hour', toDateTime(toStartOfHour(minute), 'UTC'),
        toDateTime(toStartOfDay(minute), 'UTC')
    ), 'DateTime(\'UTC\')') AS time,
    sum(predictions) AS count,
    sum(f.text_chars) / count AS text_chars,
    sum(f.text_tokens) / count AS text_tokens,
    sum(f.truncated_tokens) / count AS truncated_tokens,
    sum(f.summary_chars) / nullIf(sum(f.summarized), 0) AS summary_chars,
    sum(f.summary_tokens) / nullIf(sum(f.summarized), 0) AS summary_tokens,
    sum(f.reference_chars) / nullIf(sum(f.referenced), 0) AS reference_chars,
    sum(f.compression) / nullIf(sum(f.compressed), 0) AS compression,
    sum(f.reference_compression) / nullIf(sum(f.referenced), 0) AS reference_compression
FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = {bucket:String}) AS f
WHERE ({model:String} = '' OR model = {model:String})
    AND ({channel:String} = '' OR channel = {channel:String})
    AND ({tenant:String} = '' OR tenant = {tenant:String})
GROUP BY time
ORDER BY time
