-- Reference-free quality signals over time.
--
-- Means of coverage and density (Grusky et al. 2018), novel bigrams and repeated trigrams, and counts of empty and
-- truncated summaries.
-- param from: time = now-1d; start of the window, inclusive
-- param to: time = now; end of the window, exclusive
-- param bucket: minute|hour|day = hour; width of a time bucket
-- param model: text = ''; model to select; empty for all
-- param channel: api|local|mlflow|lambda|sagemaker|direct|batch|other = ''; channel to select; empty for all
-- param tenant: text = ''; tenant to select; empty for all
SELECT
    CAST(multiIf(
        {bucket:String} = 'minute', minute,
        {bucket:String} = 'hour', toDateTime(toStartOfHour(minute), 'UTC'),
        toDateTime(toStartOfDay(minute), 'UTC')
    ), 'DateTime(\'UTC\')') AS time,
    sum(f.signalled) AS count,
    sum(f.coverage) / count AS coverage,
    sum(f.density) / count AS density,
    sum(f.novel_bigrams) / count AS novel_bigrams,
    sum(f.repetition_rate) / count AS repetition_rate,
    sum(f.empty) AS empty,
    sum(f.truncated) AS truncated
FROM figures(from = {from:DateTime64(3, 'UTC')}, to = {to:DateTime64(3, 'UTC')}, bucket = {bucket:String}) AS f
WHERE ({model:String} = '' OR model = {model:String})
    AND ({channel:String} = '' OR channel = {channel:String})
    AND ({tenant:String} = '' OR tenant = {tenant:String})
GROUP BY time
HAVING count > 0
ORDER BY time
