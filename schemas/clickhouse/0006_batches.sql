-- Of which batch a job was, and its place there, from 0; empty for a job that came alone.
ALTER TABLE prediction_versions
    ADD COLUMN IF NOT EXISTS `batch_id` String CODEC(ZSTD(1)) AFTER `version`,
    ADD COLUMN IF NOT EXISTS `batch_index` UInt32 CODEC(ZSTD(1)) AFTER `batch_id`;

CREATE OR REPLACE VIEW predictions AS
SELECT * FROM prediction_versions FINAL;

-- Articles that were summarized in a batch, such as the news of a day. A view, and no table to keep in step: an article
-- that was summarized again shows its latest summary, and texts are kept as those of every prediction. Nothing was
-- ever written to the table that this takes the place of.
DROP TABLE IF EXISTS batch_summarization;

CREATE OR REPLACE VIEW batch_summarization AS
SELECT
    if(metadata['article_id'] = '', job_id, metadata['article_id']) AS article_id,
    metadata['title'] AS title,
    text AS article,
    metadata['url'] AS url,
    summary,
    finished_at AS summarized_at,
    tenant,
    batch_id,
    batch_index
FROM predictions
WHERE batch_id != '' AND task = 'summarize' AND outcome = 'succeeded'
ORDER BY finished_at DESC
LIMIT 1 BY tenant, article_id;
