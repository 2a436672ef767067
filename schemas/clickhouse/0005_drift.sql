-- What a model was like in the window to which it is compared: for each figure its mean, its standard
-- deviation, the inner edges of its ten bins (deciles) and the share of each bin; for an embedding the mean
-- vector, and the rest over the cosine distances to it. A newer pin replaces an older one.
CREATE TABLE IF NOT EXISTS drift_baselines
(
    `model`       LowCardinality(String),
    `metric`      LowCardinality(String),
    `window_from` DateTime64(3, 'UTC'),
    `window_to`   DateTime64(3, 'UTC'),
    `rows`        UInt64,
    `mean`        Float64,
    `deviation`   Float64,
    `edges`       Array(Float64),
    `shares`      Array(Float64),
    `centroid`    Array(Float64),
    `pinned_at`   DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(pinned_at)
ORDER BY (model, metric);

-- How far a model was from that on a day: population stability index, and shift of the mean in standard
-- deviations of the baseline. Computed again while the day lasts, and when late references change it.
CREATE TABLE IF NOT EXISTS drift_days
(
    `day`         Date,
    `model`       LowCardinality(String),
    `metric`      LowCardinality(String),
    `rows`        UInt64,
    `mean`        Float64,
    `deviation`   Float64,
    `shares`      Array(Float64),
    `psi`         Float64,
    `mean_shift`  Float64,
    `alert`       Bool,
    `computed_at` DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(computed_at)
ORDER BY (day, model, metric)
TTL day + INTERVAL 400 DAY;
