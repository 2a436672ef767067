-- Lengths and compression of summaries and references over time.
--
-- Means cover the predictions that have a summary or a reference. Compression is the text's length divided by the
-- summary's, or by the reference's, in characters.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
-- param bucket: minute|hour|day = hour; width of a time bucket
-- param model: text = ''; model to select; empty for all
-- param channel: api|local|mlflow|lambda|sagemaker|direct|batch|other = ''; channel to select; empty for all
-- param tenant: text = ''; tenant to select; empty for all
-- param outcome: all|succeeded|failed|cancelled|expired = all; outcome to select
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
    AND ({outcome:String} = 'all' OR outcome = {outcome:String})
GROUP BY time
ORDER BY time
