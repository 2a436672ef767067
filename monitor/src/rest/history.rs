//! `GET /history/list`, `/history/count`, `/history/score`: stored predictions, under the names of the service that
//! this one replaces.

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use http::header;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use precis_runtime::clock;
use precis_schemas::ErrorCode;
use precis_schemas::queries::{HISTORY_COUNT, HISTORY_LIST, HISTORY_SCORE, is_in_range};
use serde::Deserialize;

use super::guard::Caller;
use super::problem::ProblemResponse;
use super::state::RestState;

/// Most predictions in a list.
const MAX_RECORDS: u32 = 10_000;

/// Most bytes of a response.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// Query of `GET /history/list`.
#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    num_record: Option<u32>,
}

/// Query of `GET /history/count` and `GET /history/score`.
#[derive(Debug, Deserialize)]
pub(super) struct WindowQuery {
    /// End of the window; defaults to now.
    cur_ts: Option<String>,
    /// Start of the window; defaults to a day before its end.
    last_ts: Option<String>,
    freq: Option<String>,
}

impl WindowQuery {
    /// Returns the parameters of the named query.
    fn values(&self, now: Timestamp) -> Result<[(&'static str, String); 3], ProblemResponse> {
        let end = self
            .cur_ts
            .as_deref()
            .map_or(Ok(now), |text| parse_time("cur_ts", text))?;
        let start = match &self.last_ts {
            Some(text) => parse_time("last_ts", text)?,
            None => end.checked_sub(SignedDuration::from_hours(24)).unwrap_or(end),
        };
        if start > end {
            return Err(ProblemResponse::new(
                ErrorCode::InvalidParameter,
                "last_ts must not be after cur_ts",
            ));
        }
        let freq = self.freq.as_deref().unwrap_or("Hour");
        if !["Hour", "Day", "Month"].contains(&freq) {
            let given: String = freq.chars().take(80).collect();
            return Err(ProblemResponse::new(
                ErrorCode::InvalidParameter,
                format!("freq must be one of Hour, Day, Month, not {given:?}"),
            ));
        }
        if let Some(far) = [end, start].into_iter().find(|time| !is_in_range(*time)) {
            return Err(ProblemResponse::new(
                ErrorCode::InvalidParameter,
                format!("{far} is out of range: from 1970 to 2105"),
            ));
        }
        let format = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string();
        Ok([
            ("cur_ts", format(end)),
            ("last_ts", format(start)),
            ("freq", freq.to_owned()),
        ])
    }
}

/// Parses `2026-11-24 13:00:00` (UTC) or RFC 3339.
fn parse_time(name: &str, text: &str) -> Result<Timestamp, ProblemResponse> {
    let civil = || {
        let time = DateTime::strptime("%Y-%m-%d %H:%M:%S", text).ok()?;
        Some(time.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp())
    };
    civil().or_else(|| text.parse().ok()).ok_or_else(|| {
        let given: String = text.chars().take(80).collect();
        ProblemResponse::new(
            ErrorCode::InvalidParameter,
            format!("{name} must be a time such as 2026-11-24 13:00:00 (UTC), not {given:?}"),
        )
    })
}

/// Returns the latest predictions.
pub(super) async fn list(
    State(state): State<RestState>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, ProblemResponse> {
    let Query(query) = query?;
    let count = query.num_record.unwrap_or(10);
    if !(1..=MAX_RECORDS).contains(&count) {
        return Err(ProblemResponse::new(
            ErrorCode::InvalidParameter,
            format!("num_record must be 1 to {MAX_RECORDS}"),
        ));
    }
    rows(
        &state,
        &caller,
        HISTORY_LIST,
        &[("num_record", count.to_string())],
    )
    .await
}

/// Counts predictions by source and hour, day or month.
pub(super) async fn count(
    State(state): State<RestState>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<WindowQuery>, QueryRejection>,
) -> Result<Response, ProblemResponse> {
    let values = query?.values(clock::now())?;
    rows(&state, &caller, HISTORY_COUNT, &values).await
}

/// Returns scores by hour, day or month.
pub(super) async fn score(
    State(state): State<RestState>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<WindowQuery>, QueryRejection>,
) -> Result<Response, ProblemResponse> {
    let values = query?.values(clock::now())?;
    rows(&state, &caller, HISTORY_SCORE, &values).await
}

/// Runs a query. Returns its rows as a JSON array of objects.
async fn rows(
    state: &RestState,
    caller: &Caller,
    sql: &str,
    values: &[(&str, String)],
) -> Result<Response, ProblemResponse> {
    let mut query = state
        .database
        .client
        .query_raw(sql)
        .with_setting(
            "max_execution_time",
            state.clickhouse.query_timeout_seconds.to_string(),
        )
        .with_setting("output_format_json_array_of_rows", "1")
        .with_setting("output_format_json_quote_64bit_integers", "0")
        .param("tenant", caller.sees());
    for (name, value) in values {
        query = query.param(name, value);
    }
    let read = async {
        let mut cursor = query.fetch_bytes("JSONEachRow")?;
        let mut body = BytesMut::new();
        while let Some(chunk) = cursor.next().await? {
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                return Err(ProblemResponse::new(
                    ErrorCode::InvalidParameter,
                    "the response is too large; request fewer predictions or a shorter window",
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    let body = state.in_time(read).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_accept_the_formats_of_the_replaced_service() {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        let window = |cur: Option<&str>, last: Option<&str>, freq: Option<&str>| {
            let window = WindowQuery {
                cur_ts: cur.map(Into::into),
                last_ts: last.map(Into::into),
                freq: freq.map(Into::into),
            };
            window.values(now).map(|values| values.map(|(_, value)| value))
        };
        let [end, start, freq] = window(None, None, None).unwrap();
        assert_eq!(
            [end.as_str(), start.as_str(), freq.as_str()],
            ["2026-11-24 12:00:00.000", "2026-11-23 12:00:00.000", "Hour"]
        );
        let [end, start, _] = window(
            Some("2026-01-02 03:04:05"),
            Some("2026-01-01T00:00:00Z"),
            Some("Month"),
        )
        .unwrap();
        assert_eq!(
            [end.as_str(), start.as_str()],
            ["2026-01-02 03:04:05.000", "2026-01-01 00:00:00.000"]
        );
        for bad in [
            window(Some("soon"), None, None),
            window(Some("2026-01-02 03:04:05"), Some("2026-01-03 03:04:05"), None),
            window(None, None, Some("Year")),
            window(Some("2107-01-01 00:00:00"), None, None),
            window(None, Some("1960-01-01 00:00:00"), None),
        ] {
            assert_eq!(bad.unwrap_err().0.code, ErrorCode::InvalidParameter);
        }
    }
}
