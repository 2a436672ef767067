//! `GET /history/list`, `/history/count`, `/history/score`: what is kept, under the names of the service that this one
//! replaces.

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
use super::problem::Refused;
use super::state::Service;

/// Most predictions of a list.
const MAX_RECORDS: u32 = 10_000;

/// Most bytes of an answer.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Query of `GET /history/list`.
#[derive(Debug, Deserialize)]
pub(super) struct List {
    num_record: Option<u32>,
}

/// Query of `GET /history/count` and `GET /history/score`.
#[derive(Debug, Deserialize)]
pub(super) struct Window {
    /// The window ends here; now without one.
    cur_ts: Option<String>,
    /// And begins here; a day before its end without one.
    last_ts: Option<String>,
    freq: Option<String>,
}

impl Window {
    /// The three parameters as ClickHouse takes them.
    fn values(&self, now: Timestamp) -> Result<[(&'static str, String); 3], Refused> {
        let end = self
            .cur_ts
            .as_deref()
            .map_or(Ok(now), |text| moment("cur_ts", text))?;
        let begin = match &self.last_ts {
            Some(text) => moment("last_ts", text)?,
            None => end.checked_sub(SignedDuration::from_hours(24)).unwrap_or(end),
        };
        if begin > end {
            return Err(Refused::new(
                ErrorCode::InvalidParameter,
                "last_ts must not be after cur_ts",
            ));
        }
        let freq = self.freq.as_deref().unwrap_or("Hour");
        if !["Hour", "Day", "Month"].contains(&freq) {
            let given: String = freq.chars().take(80).collect();
            return Err(Refused::new(
                ErrorCode::InvalidParameter,
                format!("freq must be one of Hour, Day, Month, and {given:?} is not"),
            ));
        }
        if let Some(far) = [end, begin].into_iter().find(|time| !is_in_range(*time)) {
            return Err(Refused::new(
                ErrorCode::InvalidParameter,
                format!("{far} is out of range: from 1970 to 2105"),
            ));
        }
        let written = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string();
        Ok([
            ("cur_ts", written(end)),
            ("last_ts", written(begin)),
            ("freq", freq.to_owned()),
        ])
    }
}

/// Reads `2026-11-24 13:00:00` (UTC), or RFC 3339.
fn moment(name: &str, text: &str) -> Result<Timestamp, Refused> {
    let civil = || {
        let time = DateTime::strptime("%Y-%m-%d %H:%M:%S", text).ok()?;
        Some(time.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp())
    };
    civil().or_else(|| text.parse().ok()).ok_or_else(|| {
        let given: String = text.chars().take(80).collect();
        Refused::new(
            ErrorCode::InvalidParameter,
            format!("{name} must be a time such as 2026-11-24 13:00:00 (UTC), and {given:?} is not"),
        )
    })
}

/// The latest predictions.
pub(super) async fn list(
    State(service): State<Service>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<List>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(query) = query?;
    let count = query.num_record.unwrap_or(10);
    if !(1..=MAX_RECORDS).contains(&count) {
        return Err(Refused::new(
            ErrorCode::InvalidParameter,
            format!("num_record must be 1 to {MAX_RECORDS}"),
        ));
    }
    rows(
        &service,
        &caller,
        HISTORY_LIST,
        &[("num_record", count.to_string())],
    )
    .await
}

/// Predictions by source and hour, day or month.
pub(super) async fn count(
    State(service): State<Service>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<Window>, QueryRejection>,
) -> Result<Response, Refused> {
    let values = query?.values(clock::now())?;
    rows(&service, &caller, HISTORY_COUNT, &values).await
}

/// Scores by hour, day or month.
pub(super) async fn score(
    State(service): State<Service>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<Window>, QueryRejection>,
) -> Result<Response, Refused> {
    let values = query?.values(clock::now())?;
    rows(&service, &caller, HISTORY_SCORE, &values).await
}

/// The answer as a JSON array of objects.
async fn rows(
    service: &Service,
    caller: &Caller,
    sql: &str,
    values: &[(&str, String)],
) -> Result<Response, Refused> {
    let mut query = service
        .database
        .client
        .query_raw(sql)
        .with_setting(
            "max_execution_time",
            service.clickhouse.query_timeout_seconds.to_string(),
        )
        .with_setting("output_format_json_array_of_rows", "1")
        .with_setting("output_format_json_quote_64bit_integers", "0")
        .param("tenant", caller.sees());
    for (name, value) in values {
        query = query.param(name, value);
    }
    let collect = async {
        let mut cursor = query.fetch_bytes("JSONEachRow")?;
        let mut answer = BytesMut::new();
        while let Some(chunk) = cursor.next().await? {
            if answer.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(Refused::new(
                    ErrorCode::InvalidParameter,
                    "the answer is too large: ask for fewer predictions, or for a shorter window",
                ));
            }
            answer.extend_from_slice(&chunk);
        }
        Ok(answer.freeze())
    };
    let body = service.in_time(collect).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_read_as_it_was_written_for_the_service_before() {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        let window = |cur: Option<&str>, last: Option<&str>, freq: Option<&str>| {
            let window = Window {
                cur_ts: cur.map(Into::into),
                last_ts: last.map(Into::into),
                freq: freq.map(Into::into),
            };
            window.values(now).map(|values| values.map(|(_, value)| value))
        };
        let [end, begin, freq] = window(None, None, None).unwrap();
        assert_eq!(
            [end.as_str(), begin.as_str(), freq.as_str()],
            ["2026-11-24 12:00:00.000", "2026-11-23 12:00:00.000", "Hour"]
        );
        let [end, begin, _] = window(
            Some("2026-01-02 03:04:05"),
            Some("2026-01-01T00:00:00Z"),
            Some("Month"),
        )
        .unwrap();
        assert_eq!(
            [end.as_str(), begin.as_str()],
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
