-- The monitor refreshes the rollups soon after it stores rows. This schedule covers rows that it could not announce, and
-- leaves an idle server idle. It must be shorter than the 60 seconds for which a marked minute is computed again.
ALTER TABLE prediction_minutes_view MODIFY REFRESH EVERY 30 SECOND APPEND;
ALTER TABLE prediction_hours_view MODIFY REFRESH EVERY 30 SECOND APPEND;
ALTER TABLE prediction_days_view MODIFY REFRESH EVERY 30 SECOND APPEND;
