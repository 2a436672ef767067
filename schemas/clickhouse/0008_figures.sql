-- The figures of a window, as before: whole hours from hours, its edges from minutes; all of it from minutes when the
-- answer is to be by minute. Each part is a range of the primary key now, so that the minutes between the edges, with their
-- sketches, are not read.
CREATE OR REPLACE VIEW figures AS
SELECT *
FROM prediction_minutes FINAL
WHERE minute >= toStartOfMinute({from:DateTime64(3, 'UTC')})
    AND minute < if(
        {bucket:String} = 'minute',
        {to:DateTime64(3, 'UTC')},
        least({to:DateTime64(3, 'UTC')}, toDateTime64(toStartOfHour({from:DateTime64(3, 'UTC')} + INTERVAL 3599999 MILLISECOND), 3, 'UTC'))
    )
UNION ALL
SELECT *
FROM prediction_minutes FINAL
WHERE {bucket:String} != 'minute'
    AND minute >= greatest(
        toStartOfHour({to:DateTime64(3, 'UTC')}),
        toStartOfHour({from:DateTime64(3, 'UTC')} + INTERVAL 3599999 MILLISECOND)
    )
    AND minute < {to:DateTime64(3, 'UTC')}
UNION ALL
SELECT *
FROM prediction_hours FINAL
WHERE {bucket:String} != 'minute'
    AND minute >= toStartOfHour({from:DateTime64(3, 'UTC')} + INTERVAL 3599999 MILLISECOND)
    AND minute < toStartOfHour({to:DateTime64(3, 'UTC')});
