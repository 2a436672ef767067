-- The trace of a job, in which a tracing backend shows its spans; empty for a job without one.
ALTER TABLE prediction_versions
    ADD COLUMN IF NOT EXISTS `trace_id` String CODEC(ZSTD(1)) AFTER `batch_index`;

CREATE OR REPLACE VIEW predictions AS
SELECT * FROM prediction_versions FINAL;
