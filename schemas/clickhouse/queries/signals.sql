-- Signals of quality that need no reference, over time.
--
-- Means of coverage and density (Grusky et al. 2018), of the share of new bigrams and of repeated trigrams;
-- how many summaries were empty, or broke off.
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
