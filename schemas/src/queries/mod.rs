//! Named queries: one SQL file each in `schemas/clickhouse/queries/`, shared by the gateway, dashboards, documentation
//! and tests.
//!
//! A file starts with comments: a title, a description after an empty comment line, and a line per parameter, such as
//! `-- param limit: 1..1000 = 20; most rows`. Parameters are ClickHouse's own (`{limit:UInt32}`): values never become
//! part of the query text.

use std::fmt;

use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};

/// A named query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedQuery {
    /// Its name, as in the file name.
    pub name: &'static str,
    /// Its title, in one line.
    pub title: String,
    /// Its description. May be empty.
    pub description: String,
    /// Its parameters, in order.
    pub parameters: Vec<QueryParameter>,
    /// The SQL with its comments.
    pub sql: &'static str,
}

/// A parameter of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryParameter {
    /// Its name.
    pub name: String,
    /// Its accepted values.
    pub kind: ParameterKind,
    /// Its default: a value, or for a time `now` or `now-30d`.
    pub default: String,
    /// What it does.
    pub description: String,
}

/// Accepted values of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterKind {
    /// A time: RFC 3339, `now`, or a time before now such as `now-15m` (units s, m, h, d).
    Time,
    /// A string of at most [`MAX_TEXT_CHARS`] characters; empty for no restriction.
    Text,
    /// A whole number within these bounds.
    Integer {
        /// Minimum.
        least: u64,
        /// Maximum.
        greatest: u64,
    },
    /// A decimal number, or nothing for no restriction.
    Number,
    /// One of these.
    Choice(Vec<String>),
}

/// Query of the monitor's `GET /history/list`, with `num_record` and `tenant` (empty: all).
pub const HISTORY_LIST: &str = include_str!("../../clickhouse/history/list.sql");
/// Query of `GET /history/count`, with `last_ts`, `cur_ts`, `freq` (`Hour`, `Day` or `Month`) and `tenant` (empty:
/// all).
pub const HISTORY_COUNT: &str = include_str!("../../clickhouse/history/count.sql");
/// Query of `GET /history/score`, with the parameters of [`HISTORY_COUNT`].
pub const HISTORY_SCORE: &str = include_str!("../../clickhouse/history/score.sql");

/// Maximum length of a text parameter, in characters.
pub const MAX_TEXT_CHARS: usize = 200;

/// A rejected parameter value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} must be {wanted}, not {given:?}")]
pub struct InvalidValue {
    /// The parameter.
    pub name: String,
    /// The accepted values, in words.
    pub wanted: String,
    /// The rejected value, cut to 80 characters.
    pub given: String,
}

macro_rules! files {
    ($($name:literal)+) => {
        /// Name and text of every file.
        const FILES: &[(&str, &str)] = &[$((
            $name,
            include_str!(concat!("../../clickhouse/queries/", $name, ".sql")),
        ),)+];
    };
}

files! {
    "latency"
    "latency_over_time"
    "throughput"
    "errors"
    "channels"
    "lengths"
    "signals"
    "scores"
    "score_distribution"
    "models"
    "drift"
    "slowest"
    "worst_scores"
    "recent"
}

/// Returns every named query, in the order of the documentation.
pub fn all() -> impl Iterator<Item = NamedQuery> {
    FILES.iter().map(|(name, sql)| read(name, sql))
}

/// Returns the query of this name.
pub fn find(name: &str) -> Option<NamedQuery> {
    let (name, sql) = FILES.iter().find(|(known, _)| *known == name)?;
    Some(read(name, sql))
}

/// Returns the query of `GET /v1/predictions`.
pub fn predictions() -> NamedQuery {
    read(
        "predictions",
        include_str!("../../clickhouse/predictions/list.sql"),
    )
}

/// Returns the query of `GET /v1/predictions/count`.
pub fn prediction_count() -> NamedQuery {
    read(
        "prediction_count",
        include_str!("../../clickhouse/predictions/count.sql"),
    )
}

/// Returns the query of `GET /v1/predictions/{id}`.
pub fn prediction() -> NamedQuery {
    read("prediction", include_str!("../../clickhouse/predictions/one.sql"))
}

/// Parses the comments at the start of a file. The tests of this module find incomplete ones.
fn read(name: &'static str, sql: &'static str) -> NamedQuery {
    let comments: Vec<&str> = sql
        .lines()
        .map_while(|line| line.strip_prefix("--"))
        .map(str::trim)
        .collect();
    let is_parameter = |line: &&str| line.starts_with("param ");
    let parameters = comments.iter().copied().filter(is_parameter);
    let text: Vec<&str> = comments
        .iter()
        .copied()
        .filter(|line| !is_parameter(line))
        .collect();
    NamedQuery {
        name,
        title: text.first().copied().unwrap_or_default().to_owned(),
        description: text.get(1..).unwrap_or_default().join(" ").trim().to_owned(),
        parameters: parameters.filter_map(QueryParameter::read).collect(),
        sql,
    }
}

impl QueryParameter {
    /// Parses `param name: kind = default; description`.
    fn read(line: &str) -> Option<Self> {
        let (name, rest) = line.strip_prefix("param ")?.split_once(':')?;
        let (kind, rest) = rest.split_once('=')?;
        let (default, description) = rest.split_once(';')?;
        let kind = match kind.trim() {
            "time" => ParameterKind::Time,
            "text" => ParameterKind::Text,
            "number" => ParameterKind::Number,
            choices if choices.contains('|') => {
                ParameterKind::Choice(choices.split('|').map(str::to_owned).collect())
            }
            bounds => {
                let (least, greatest) = bounds.split_once("..")?;
                ParameterKind::Integer {
                    least: least.parse().ok()?,
                    greatest: greatest.parse().ok()?,
                }
            }
        };
        Some(Self {
            name: name.trim().to_owned(),
            kind,
            default: default.trim().trim_matches('\'').to_owned(),
            description: description.trim().to_owned(),
        })
    }

    /// Converts a client's value, or the default, to ClickHouse's format.
    ///
    /// # Errors
    /// If the parameter does not accept the value.
    pub fn value(&self, given: Option<&str>, now: Timestamp) -> Result<String, InvalidValue> {
        let given = given.unwrap_or(&self.default);
        let invalid = || InvalidValue {
            name: self.name.clone(),
            wanted: self.kind.to_string(),
            given: given.chars().take(80).collect(),
        };
        match &self.kind {
            ParameterKind::Time => {
                // Rows have milliseconds. Rounding up keeps the same rows within `from <= time < to`.
                let up = TimestampRound::new()
                    .smallest(Unit::Millisecond)
                    .mode(RoundMode::Ceil);
                let time = moment(given, now).ok_or_else(invalid)?;
                let time = time.round(up).map_err(|_| invalid())?;
                if !is_in_range(time) {
                    return Err(invalid());
                }
                Ok(time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string())
            }
            ParameterKind::Text if given.chars().count() <= MAX_TEXT_CHARS && !given.contains('\0') => {
                Ok(given.to_owned())
            }
            ParameterKind::Integer { least, greatest } => {
                let digits = given.bytes().all(|byte| byte.is_ascii_digit());
                let number = given.parse::<u64>().ok().filter(|_| digits);
                let fits = number.filter(|number| (*least..=*greatest).contains(number));
                fits.map(|number| number.to_string()).ok_or_else(invalid)
            }
            ParameterKind::Number if given.is_empty() => Ok(String::new()),
            ParameterKind::Number => {
                let number = given.parse::<f64>().ok().filter(|number| number.is_finite());
                // ClickHouse does not read every spelling that Rust reads.
                number.map(|number| number.to_string()).ok_or_else(invalid)
            }
            ParameterKind::Choice(choices)
                if given == self.default || choices.iter().any(|choice| choice == given) =>
            {
                Ok(given.to_owned())
            }
            ParameterKind::Text | ParameterKind::Choice(_) => Err(invalid()),
        }
    }
}

/// Parses `now`, `now-15m` or RFC 3339.
fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    let Some(rest) = text.strip_prefix("now") else {
        return text.parse().ok();
    };
    if rest.is_empty() {
        return Some(now);
    }
    let rest = rest.strip_prefix('-')?;
    let (digits, unit) = rest.split_at_checked(rest.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let back = digits.parse::<i64>().ok()?.checked_mul(seconds)?;
    now.checked_sub(SignedDuration::from_secs(back)).ok()
}

/// The first unsupported second: the last midnight that ClickHouse's 32-bit `DateTime` can hold. Queries round times to
/// hours and days.
const TOO_LATE: i64 = 4_294_944_000;

/// Reports whether ClickHouse can compute with `time` without overflow: from 1970 to 6 February 2106.
pub fn is_in_range(time: Timestamp) -> bool {
    (0..TOO_LATE).contains(&time.as_second())
}

impl fmt::Display for ParameterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time => f.write_str("a time such as 2026-11-23T13:00:00Z, now or now-15m"),
            Self::Text => write!(f, "a text of at most {MAX_TEXT_CHARS} characters"),
            Self::Number => f.write_str("a number"),
            Self::Integer { least, greatest } => write!(f, "a whole number from {least} to {greatest}"),
            Self::Choice(choices) => write!(f, "one of {}", choices.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests;
