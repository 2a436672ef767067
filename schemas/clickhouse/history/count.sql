-- Counts of predictions by source, per hour, day or month.
SELECT
    if(metadata['model_source'] = '', channel, metadata['model_source']) AS model_source,
    formatDateTime(multiIf(
        {freq:String} = 'Hour', toDateTime(toStartOfHour(finished_at), 'UTC'),
        {freq:String} = 'Day', toDateTime(toStartOfDay(finished_at), 'UTC'),
        toDateTime(toStartOfMonth(finished_at), 'UTC')
    ), '%Y-%m-%d %H:%i:%S') AS prediction_dt,
    count() AS num_record
FROM predictions
WHERE outcome = 'succeeded'
    AND ({tenant:String} = '' OR tenant = {tenant:String})
    AND finished_at >= {last_ts:DateTime64(3, 'UTC')} AND finished_at <= {cur_ts:DateTime64(3, 'UTC')}
GROUP BY model_source, prediction_dt
ORDER BY prediction_dt, model_source
