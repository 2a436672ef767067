//! How far each model is from what it was: every day is compared with a pinned window, figure by figure.
//!
//! | file | what |
//! | --- | --- |
//! | `divergence.rs` | population stability index and shift of the mean |
//! | `sql.rs` | what is read and written |
//!
//! A window is pinned once and kept, so that a model which slowly changes is compared with what it was and not with what
//! it has become. Without one in the configuration it is the first days of each model, as many as it takes until there
//! are enough predictions.

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
use sql::{Baseline, Day, EMBEDDINGS, FIGURES, Window};

const MS_PER_DAY: i64 = 86_400_000;
/// Days that are computed again each time: late references change those that are over.
const DAYS_AGAIN: i64 = 7;

/// Computes drift every so often until it is time to stop. A failure is tried again the next time.
pub(crate) async fn run(database: Database, settings: DriftConfig, stop: CancellationToken) {
    if settings.every_minutes == 0 {
        stop.cancelled().await;
        return;
    }
    let mut tick = tokio::time::interval(Duration::from_secs(60 * settings.every_minutes));
    let mut told = HashSet::new();
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
                tell(&days, &mut told);
            }
            Err(error) => {
                tracing::warn!(
                    error = explain(&error),
                    "drift can't be computed; trying again later"
                );
            }
        }
    }
}

/// Shows the latest day of each figure, and logs alerts, each once.
fn tell(days: &[Day], told: &mut HashSet<(u16, String, String)>) {
    for day in days {
        // In order of days: the latest stays.
        metrics::drift(&day.model, &day.metric, day.psi, day.mean_shift, day.alert);
        if day.alert && told.insert((day.day, day.model.clone(), day.metric.clone())) {
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
    told.retain(|(day, ..)| *day >= oldest);
}

/// The day of this number, counted from 1970.
fn date(day: u16) -> String {
    let begin = Timestamp::from_second(i64::from(day) * 86_400).unwrap_or_default();
    begin.strftime("%Y-%m-%d").to_string()
}

/// Pins what is to be pinned, and compares the past days with it; the days, in order.
async fn compute(database: &Database, settings: &DriftConfig, now: Timestamp) -> Result<Vec<Day>> {
    let client = &database.client;
    let now = now.as_millisecond();
    let mut baselines = sql::baselines(client).await?;
    for (model, first_day) in sql::models(client).await? {
        let windows = windows(settings, i64::from(first_day), now);
        for metric in FIGURES.into_iter().chain(EMBEDDINGS) {
            let place = baselines
                .iter()
                .position(|one| one.model == model && one.metric == metric);
            let pinned = place.map(|place| baselines.swap_remove(place));
            let kept = pinned.filter(|pinned| stands(settings, pinned));
            let baseline = match kept {
                Some(kept) => Some(kept),
                None => pin(database, settings, &model, metric, &windows, now).await?,
            };
            baselines.extend(baseline);
        }
    }
    let days = Window {
        from: (now / MS_PER_DAY - DAYS_AGAIN) * MS_PER_DAY,
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

/// Whether a baseline is not to be pinned anew: the first days of a model are for good, a window of the configuration
/// for as long as it is the same.
fn stands(settings: &DriftConfig, pinned: &Baseline) -> bool {
    match (settings.baseline_from, settings.baseline_to) {
        (Some(from), Some(to)) => {
            (pinned.window_from, pinned.window_to) == (from.as_millisecond(), to.as_millisecond())
        }
        _ => true,
    }
}

/// The windows to which a model can be compared, the first with enough predictions counts; none while it isn't over.
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

/// Pins what a figure of a model was like in the first of the windows in which there is enough of it.
async fn pin(
    database: &Database,
    settings: &DriftConfig,
    model: &str,
    metric: &str,
    windows: &[Window],
    now: i64,
) -> Result<Option<Baseline>> {
    for window in windows {
        let Some(baseline) = describe(database, settings, model, metric, *window, now).await? else {
            continue;
        };
        tracing::info!(
            model,
            metric,
            rows = baseline.rows,
            "a baseline of drift is pinned"
        );
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

/// What a figure of a model was like in a window; none when there is too little of it.
async fn describe(
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
    let moments = sql::moments(client, metric, model, window, &centroid).await?;
    if moments.rows < settings.min_rows {
        return Ok(None);
    }
    let mut baseline = Baseline {
        model: model.to_owned(),
        metric: metric.to_owned(),
        window_from: window.from,
        window_to: window.to,
        rows: moments.rows,
        mean: moments.mean,
        deviation: moments.deviation,
        edges: moments.edges,
        shares: Vec::new(),
        centroid,
        pinned_at: now,
    };
    let mut counts = vec![0; divergence::BINS];
    for day in sql::binned(client, &baseline, window).await? {
        for (sum, count) in counts.iter_mut().zip(&day.counts) {
            *sum += count;
        }
    }
    baseline.shares = shares(&counts);
    Ok(Some(baseline))
}

/// The days of a window beside the baseline, as far as there is enough of them.
async fn compare(
    database: &Database,
    settings: &DriftConfig,
    baseline: &Baseline,
    window: Window,
    now: i64,
) -> Result<Vec<Day>> {
    let binned = sql::binned(&database.client, baseline, window).await?;
    let enough = binned.into_iter().filter(|day| day.rows >= settings.min_rows);
    let compared = enough.map(|day| {
        let shares = shares(&day.counts);
        let psi = stability_index(&baseline.shares, &shares);
        let then = Moments {
            mean: baseline.mean,
            deviation: baseline.deviation,
        };
        let now_is = Moments {
            mean: day.mean,
            deviation: day.deviation,
        };
        let mean_shift = mean_shift(then, now_is);
        Day {
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
    fn a_window_counts_only_when_it_is_over_and_grows_while_there_is_too_little() {
        let drift = DriftConfig::default();
        assert_eq!(windows(&drift, 100, 107 * MS_PER_DAY - 1), []);
        assert_eq!(windows(&drift, 100, 107 * MS_PER_DAY), [window(100, 107)]);
        let later = windows(&drift, 100, 120 * MS_PER_DAY + 5);
        assert_eq!(later, [window(100, 107), window(100, 120)]);
    }

    #[test]
    fn a_window_that_is_set_is_the_only_one_until_it_is_changed() {
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
        assert!(stands(&set(2), &pinned) && stands(&DriftConfig::default(), &pinned));
        assert!(!stands(&set(3), &pinned));
    }

    #[test]
    fn a_day_has_its_date() {
        assert_eq!(date(20_781), "2026-11-24");
    }
}
