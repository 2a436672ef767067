//! Drift: compares each day of a model with a pinned baseline, metric by metric.
//!
//! | module | contents |
//! | --- | --- |
//! | `divergence` | population stability index and shift of the mean |
//! | `sql` | queries and tables |
//!
//! A baseline is pinned once and kept, so that a slowly changing model is compared with its start. Without a configured
//! window, the baseline is the model's first days, as many as it takes to have enough predictions.

mod divergence;
mod sql;

use std::collections::HashSet;
use std::time::Duration;

use clickhouse::error::Result;
use jiff::Timestamp;
use precis_runtime::clock;
use precis_runtime::config::DriftConfig;
use tokio_util::sync::CancellationToken;

use crate::database::{Database, explain};
use crate::metrics;
use divergence::{Moments, mean_shift, shares, stability_index};
use sql::{Baseline, DriftDay, EMBEDDINGS, METRICS, Window};

const MS_PER_DAY: i64 = 86_400_000;
/// Days that are recomputed each time, because late references change past days.
const RECOMPUTED_DAYS: i64 = 7;

/// Computes drift at the configured interval until shutdown. A failure is retried at the next interval.
pub(crate) async fn run(database: Database, settings: DriftConfig, stop: CancellationToken) {
    if settings.every_minutes == 0 {
        stop.cancelled().await;
        return;
    }
    let mut tick = tokio::time::interval(Duration::from_secs(60 * settings.every_minutes));
    let mut reported = HashSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let now = clock::now();
        let computed = tokio::select! {
            () = stop.cancelled() => return,
            computed = compute(&database, &settings, now) => computed,
        };
        match computed {
            Ok(days) => {
                metrics::drift_computed(now.as_millisecond() as f64 / 1e3);
                report(&days, &mut reported);
            }
            Err(error) => {
                tracing::warn!(
                    error = explain(&error),
                    "drift can't be computed; retrying at the next interval"
                );
            }
        }
    }
}

/// Exports the latest day of each metric, and logs each alert once.
fn report(days: &[DriftDay], reported: &mut HashSet<(u16, String, String)>) {
    for day in days {
        // Days are in order, so the latest wins.
        metrics::drift(&day.model, &day.metric, day.psi, day.mean_shift, day.alert);
        if day.alert && reported.insert((day.day, day.model.clone(), day.metric.clone())) {
            tracing::warn!(
                model = day.model,
                metric = day.metric,
                day = %date(day.day),
                psi = day.psi,
                mean_shift = day.mean_shift,
                "a model has drifted from its baseline"
            );
        }
    }
    let oldest = days.iter().map(|day| day.day).min().unwrap_or_default();
    reported.retain(|(day, ..)| *day >= oldest);
}

/// Formats a day counted from 1970.
fn date(day: u16) -> String {
    let begin = Timestamp::from_second(i64::from(day) * 86_400).unwrap_or_default();
    begin.strftime("%Y-%m-%d").to_string()
}

/// Pins missing baselines and compares the past days with them. Returns the days in order.
async fn compute(database: &Database, settings: &DriftConfig, now: Timestamp) -> Result<Vec<DriftDay>> {
    let client = &database.client;
    let now = now.as_millisecond();
    let mut baselines = sql::baselines(client).await?;
    for (model, first_day) in sql::models(client).await? {
        let windows = windows(settings, i64::from(first_day), now);
        for metric in METRICS.into_iter().chain(EMBEDDINGS) {
            let index = baselines
                .iter()
                .position(|one| one.model == model && one.metric == metric);
            let pinned = index.map(|index| baselines.swap_remove(index));
            let valid = pinned.filter(|pinned| is_valid(settings, pinned));
            let baseline = match valid {
                Some(valid) => Some(valid),
                None => pin(database, settings, &model, metric, &windows, now).await?,
            };
            baselines.extend(baseline);
        }
    }
    let days = Window {
        from: (now / MS_PER_DAY - RECOMPUTED_DAYS) * MS_PER_DAY,
        to: now,
    };
    let mut all = Vec::new();
    for baseline in &baselines {
        all.extend(compare(database, settings, baseline, days, now).await?);
    }
    sql::insert(client, "drift_days", &all).await?;
    all.sort_by_key(|day| day.day);
    Ok(all)
}

/// Whether a baseline is still valid. The first days of a model stay valid; a configured window does while it is
/// unchanged.
fn is_valid(settings: &DriftConfig, pinned: &Baseline) -> bool {
    match (settings.baseline_from, settings.baseline_to) {
        (Some(from), Some(to)) => {
            (pinned.window_from, pinned.window_to) == (from.as_millisecond(), to.as_millisecond())
        }
        _ => true,
    }
}

/// Returns the candidate windows of a baseline, shortest first. Windows that have not ended are left out.
fn windows(settings: &DriftConfig, first_day: i64, now: i64) -> Vec<Window> {
    if let (Some(from), Some(to)) = (settings.baseline_from, settings.baseline_to) {
        let window = Window {
            from: from.as_millisecond(),
            to: to.as_millisecond(),
        };
        return if window.to <= now { vec![window] } else { vec![] };
    }
    let days = i64::from(settings.baseline_days);
    let so_far = now / MS_PER_DAY - first_day;
    let mut windows = Vec::new();
    for days in [days, so_far] {
        if days <= so_far && days >= i64::from(settings.baseline_days) {
            windows.push(Window {
                from: first_day * MS_PER_DAY,
                to: (first_day + days) * MS_PER_DAY,
            });
        }
    }
    windows.dedup();
    windows
}

/// Pins the baseline of a metric from the first window with enough predictions.
async fn pin(
    database: &Database,
    settings: &DriftConfig,
    model: &str,
    metric: &str,
    windows: &[Window],
    now: i64,
) -> Result<Option<Baseline>> {
    for window in windows {
        let Some(baseline) = measure(database, settings, model, metric, *window, now).await? else {
            continue;
        };
        tracing::info!(model, metric, rows = baseline.rows, "pinned a drift baseline");
        sql::insert(
            &database.client,
            "drift_baselines",
            std::slice::from_ref(&baseline),
        )
        .await?;
        return Ok(Some(baseline));
    }
    Ok(None)
}

/// Returns the baseline of a metric in a window, or `None` with too few predictions.
async fn measure(
    database: &Database,
    settings: &DriftConfig,
    model: &str,
    metric: &str,
    window: Window,
    now: i64,
) -> Result<Option<Baseline>> {
    let client = &database.client;
    let centroid = if EMBEDDINGS.contains(&metric) {
        let centroid = sql::centroid(client, metric, model, window).await?;
        if centroid.is_empty() {
            return Ok(None);
        }
        centroid
    } else {
        Vec::new()
    };
    let stats = sql::window_stats(client, metric, model, window, &centroid).await?;
    if stats.rows < settings.min_rows {
        return Ok(None);
    }
    let mut baseline = Baseline {
        model: model.to_owned(),
        metric: metric.to_owned(),
        window_from: window.from,
        window_to: window.to,
        rows: stats.rows,
        mean: stats.mean,
        deviation: stats.deviation,
        edges: stats.edges,
        shares: Vec::new(),
        centroid,
        pinned_at: now,
    };
    let mut counts = vec![0; divergence::BINS];
    for day in sql::binned_days(client, &baseline, window).await? {
        for (sum, count) in counts.iter_mut().zip(&day.counts) {
            *sum += count;
        }
    }
    baseline.shares = shares(&counts);
    Ok(Some(baseline))
}

/// Compares the days of a window with the baseline. Days with too few predictions are left out.
async fn compare(
    database: &Database,
    settings: &DriftConfig,
    baseline: &Baseline,
    window: Window,
    now: i64,
) -> Result<Vec<DriftDay>> {
    let binned_days = sql::binned_days(&database.client, baseline, window).await?;
    let enough = binned_days
        .into_iter()
        .filter(|day| day.rows >= settings.min_rows);
    let compared = enough.map(|day| {
        let shares = shares(&day.counts);
        let psi = stability_index(&baseline.shares, &shares);
        let reference = Moments {
            mean: baseline.mean,
            deviation: baseline.deviation,
        };
        let current = Moments {
            mean: day.mean,
            deviation: day.deviation,
        };
        let mean_shift = mean_shift(reference, current);
        DriftDay {
            day: day.day,
            model: baseline.model.clone(),
            metric: baseline.metric.clone(),
            rows: day.rows,
            mean: day.mean,
            deviation: day.deviation,
            shares,
            psi,
            mean_shift,
            alert: psi >= settings.psi_alert || mean_shift.abs() >= settings.shift_alert,
            computed_at: now,
        }
    });
    Ok(compared.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: i64, to: i64) -> Window {
        Window {
            from: from * MS_PER_DAY,
            to: to * MS_PER_DAY,
        }
    }

    #[test]
    fn windows_must_have_ended_and_grow_while_predictions_are_too_few() {
        let drift = DriftConfig::default();
        assert_eq!(windows(&drift, 100, 107 * MS_PER_DAY - 1), []);
        assert_eq!(windows(&drift, 100, 107 * MS_PER_DAY), [window(100, 107)]);
        let later = windows(&drift, 100, 120 * MS_PER_DAY + 5);
        assert_eq!(later, [window(100, 107), window(100, 120)]);
    }

    #[test]
    fn a_configured_window_is_the_only_candidate() {
        let set = |day: u8| DriftConfig {
            baseline_from: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            baseline_to: Some(format!("2026-01-0{day}T00:00:00Z").parse().unwrap()),
            ..DriftConfig::default()
        };
        let [only] = windows(&set(2), 100, i64::MAX)[..] else {
            panic!("one window")
        };
        assert_eq!(only.to - only.from, MS_PER_DAY);
        let pinned = Baseline {
            model: "m".into(),
            metric: "rouge1".into(),
            window_from: only.from,
            window_to: only.to,
            rows: 9,
            mean: 0.5,
            deviation: 0.1,
            edges: vec![],
            shares: vec![],
            centroid: vec![],
            pinned_at: 0,
        };
        assert!(is_valid(&set(2), &pinned) && is_valid(&DriftConfig::default(), &pinned));
        assert!(!is_valid(&set(3), &pinned));
    }

    #[test]
    fn days_are_formatted_as_dates() {
        assert_eq!(date(20_781), "2026-11-24");
    }
}
