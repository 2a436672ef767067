-- Pairs of an article and a summary by a human, to try things with.
CREATE TABLE IF NOT EXISTS samples
(
    `sample_id` String,
    `article`   String CODEC(ZSTD(3)),
    `summ`      String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
ORDER BY sample_id;

-- Articles that were summarized in a batch, such as the news of a day.
CREATE TABLE IF NOT EXISTS batch_summarization
(
    `article_id`    String,
    `title`         String CODEC(ZSTD(1)),
    `article`       String CODEC(ZSTD(3)),
    `url`           String CODEC(ZSTD(1)),
    `summary`       String CODEC(ZSTD(3)),
    `summarized_at` DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(summarized_at)
ORDER BY article_id;
