-- Histograms of times in the place of sketches: as right, and many times faster to add up, by which every question about
-- latency is answered.
--
-- A histogram is a map from a bin to how many values are in it. Bin 0 is what takes at most a microsecond; bin k has what
-- is longer than 0.001 * g^(k - 1) milliseconds, up to 0.001 * g^k, with g = 1.01 / 0.99. In its name stands 0.00099 * g^k,
-- which is off from each of its values by at most a hundredth (the bins of DDSketch: Masson et al. 2019).
DROP VIEW IF EXISTS prediction_minutes_view;
DROP VIEW IF EXISTS prediction_hours_view;

ALTER TABLE prediction_minutes
    ADD COLUMN IF NOT EXISTS `queue_bins` Map(UInt16, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `batch_wait_bins` Map(UInt16, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `tokenize_bins` Map(UInt16, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `encode_bins` Map(UInt16, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `decode_bins` Map(UInt16, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `publish_bins` Map(UInt16, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `end_to_end_bins` Map(UInt16, UInt64) CODEC(ZSTD(1));

ALTER TABLE prediction_hours
    ADD COLUMN IF NOT EXISTS `queue_bins` Map(UInt16, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `batch_wait_bins` Map(UInt16, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `tokenize_bins` Map(UInt16, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `encode_bins` Map(UInt16, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `decode_bins` Map(UInt16, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `publish_bins` Map(UInt16, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS `end_to_end_bins` Map(UInt16, UInt64) CODEC(ZSTD(1));

-- What is known of hours whose minutes are kept no longer: a hundred quantiles of each sketch. Younger ones are computed
-- anew from the predictions, by the next migration.
INSERT INTO prediction_hours
WITH
    (sketch, n) -> CAST(
        arrayZip(
            arrayMap(
                ms -> toUInt16(if(ms > 0.001, least(65535, ceil(log(ms / 0.001) / log(1.01 / 0.99))), 0)),
                arrayReduce(
                    concat(
                        'quantilesDDMerge(0.01, ',
                        '0.005, 0.015, 0.025, 0.035, 0.045, 0.055, 0.065, 0.075, 0.085, 0.095, ',
                        '0.105, 0.115, 0.125, 0.135, 0.145, 0.155, 0.165, 0.175, 0.185, 0.195, ',
                        '0.205, 0.215, 0.225, 0.235, 0.245, 0.255, 0.265, 0.275, 0.285, 0.295, ',
                        '0.305, 0.315, 0.325, 0.335, 0.345, 0.355, 0.365, 0.375, 0.385, 0.395, ',
                        '0.405, 0.415, 0.425, 0.435, 0.445, 0.455, 0.465, 0.475, 0.485, 0.495, ',
                        '0.505, 0.515, 0.525, 0.535, 0.545, 0.555, 0.565, 0.575, 0.585, 0.595, ',
                        '0.605, 0.615, 0.625, 0.635, 0.645, 0.655, 0.665, 0.675, 0.685, 0.695, ',
                        '0.705, 0.715, 0.725, 0.735, 0.745, 0.755, 0.765, 0.775, 0.785, 0.795, ',
                        '0.805, 0.815, 0.825, 0.835, 0.845, 0.855, 0.865, 0.875, 0.885, 0.895, ',
                        '0.905, 0.915, 0.925, 0.935, 0.945, 0.955, 0.965, 0.975, 0.985, 0.995)'
                    ),
                    sketch
                )
            ),
            arrayMap(i -> intDiv((i + 1) * n, 100) - intDiv(i * n, 100), range(100))
        ),
        'Map(UInt16, UInt64)'
    ) AS bins_of
SELECT * REPLACE (
    now64(3) AS version,
    bins_of([queue_ms], predictions) AS queue_bins,
    bins_of([batch_wait_ms], predictions) AS batch_wait_bins,
    bins_of([tokenize_ms], predictions) AS tokenize_bins,
    bins_of([encode_ms], predictions) AS encode_bins,
    bins_of([decode_ms], predictions) AS decode_bins,
    bins_of([publish_ms], predictions) AS publish_bins,
    bins_of([end_to_end_ms], predictions) AS end_to_end_bins
)
FROM prediction_hours FINAL
SETTINGS max_block_size = 1024, max_threads = 2;
