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

/// Computes drift once, without waiting for the interval.
///
/// # Errors
/// When ClickHouse is unavailable.
pub(crate) async fn compute_now(database: &Database, settings: &DriftConfig) -> Result<()> {
    compute(database, settings, clock::now()).await.map(|_| ())
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
        for metric in METRICS.into_iter().chain(EMBEDDINGS) {
            let index = baselines
                .iter()
                .position(|one| one.model == model && one.metric == metric);
            let pinned = index.map(|index| baselines.swap_remove(index));
            let valid = pinned.filter(|pinned| is_valid(settings, pinned));
            let baseline = match valid {
                Some(valid) => Some(valid),
                None => pin(database, settings, &model, metric, i64::from(first_day), now).await?,
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

/// Returns the configured window of every baseline, if there is one.
fn configured_window(settings: &DriftConfig) -> Option<Window> {
    Some(Window {
        from: settings.baseline_from?.as_millisecond(),
        to: settings.baseline_to?.as_millisecond(),
    })
}

/// Returns the first days of a model: `drift.baseline_days`, or more until they have `drift.min_rows` predictions.
/// `None` until enough days are over. `rows` lists the days with predictions in order, counted from 1970.
fn first_days(settings: &DriftConfig, first_day: i64, now: i64, rows: &[(u16, u64)]) -> Option<Window> {
    let least = first_day + i64::from(settings.baseline_days);
    let mut sum = 0;
    let enough = rows.iter().find_map(|(day, rows)| {
        sum += rows;
        (sum >= settings.min_rows).then_some(i64::from(*day) + 1)
    })?;
    let end = enough.max(least);
    (end <= now / MS_PER_DAY).then_some(Window {
        from: first_day * MS_PER_DAY,
        to: end * MS_PER_DAY,
    })
}

/// Pins the baseline of a metric, if there are enough predictions.
async fn pin(
    database: &Database,
    settings: &DriftConfig,
    model: &str,
    metric: &str,
    first_day: i64,
    now: i64,
) -> Result<Option<Baseline>> {
    let client = &database.client;
    let window = match configured_window(settings) {
        Some(window) => Some(window).filter(|window| window.to <= now),
        None => {
            let so_far = Window {
                from: first_day * MS_PER_DAY,
                to: now / MS_PER_DAY * MS_PER_DAY,
            };
            let rows = sql::rows_of_days(client, metric, model, so_far).await?;
            first_days(settings, first_day, now, &rows)
        }
    };
    let Some(window) = window else {
        return Ok(None);
    };
    let Some(baseline) = measure(database, settings, model, metric, window, now).await? else {
        return Ok(None);
    };
    tracing::info!(model, metric, rows = baseline.rows, "pinned a drift baseline");
    sql::insert(client, "drift_baselines", std::slice::from_ref(&baseline)).await?;
    Ok(Some(baseline))
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
    fn a_baseline_has_the_first_days_and_more_until_there_are_enough_predictions() {
        let drift = DriftConfig::default();
        let first_days =
            |today: i64, rows: &[(u16, u64)]| first_days(&drift, 100, today * MS_PER_DAY + 5, rows);
        let many = [(100, 150), (101, 60)];
        assert_eq!(first_days(106, &many), None);
        assert_eq!(first_days(107, &many), Some(window(100, 107)));
        // A history that is loaded at once has the same baseline as one that grew day by day.
        assert_eq!(first_days(120, &many), Some(window(100, 107)));
        let few = [(100, 100), (108, 99), (110, 1), (111, 500)];
        assert_eq!(first_days(110, &few[..2]), None);
        assert_eq!(first_days(120, &few), Some(window(100, 111)));
        assert_eq!(first_days(120, &[]), None);
    }

    #[test]
    fn a_configured_window_replaces_the_first_days() {
        let set = |day: u8| DriftConfig {
            baseline_from: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            baseline_to: Some(format!("2026-01-0{day}T00:00:00Z").parse().unwrap()),
            ..DriftConfig::default()
        };
        let only = configured_window(&set(2)).unwrap();
        assert_eq!(only.to - only.from, MS_PER_DAY);
        assert_eq!(configured_window(&DriftConfig::default()), None);
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
