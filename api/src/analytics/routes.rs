//! `GET /v1/analytics` and `GET /v1/analytics/{query}`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use jiff::Timestamp;
use precis_runtime::clock;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::queries::{self, NamedQuery, ParameterKind};
use serde_json::{Value, json};

use crate::access::Caller;
use crate::analytics::Format;
use crate::gateway::state::AppState;
use crate::http::caching::no_cache;
use crate::http::extract::Query;
use crate::http::problem::ApiError;

/// Lists every query and its parameters.
pub(crate) async fn list() -> Json<Value> {
    let queries: Vec<Value> = queries::all().map(|query| describe(&query)).collect();
    Json(json!({"queries": queries, "formats": ["json", "csv", "arrow"]}))
}

fn describe(query: &NamedQuery) -> Value {
    let parameters = query.parameters.iter().map(|parameter| {
        let mut shown = json!({
            "name": parameter.name,
            "default": parameter.default,
            "description": parameter.description,
        });
        let more = match &parameter.kind {
            ParameterKind::Time => json!({"type": "time"}),
            ParameterKind::Text => json!({"type": "text", "max_chars": queries::MAX_TEXT_CHARS}),
            ParameterKind::Number => json!({"type": "number"}),
            ParameterKind::Integer { least, greatest } => {
                json!({"type": "integer", "least": least, "greatest": greatest})
            }
            ParameterKind::Choice(choices) => json!({"type": "choice", "choices": choices}),
        };
        if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
            shown.extend(more);
        }
        shown
    });
    json!({
        "name": query.name,
        "title": query.title,
        "description": query.description,
        "sql": query.sql,
        "parameters": parameters.collect::<Vec<_>>(),
        "links": {"self": format!("/v1/analytics/{}", query.name)},
    })
}

/// Runs a named query.
pub(crate) async fn answer(
    State(state): State<AppState>,
    caller: Caller,
    Path(name): Path<String>,
    Query(given): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = queries::find(&name).ok_or_else(|| {
        let known: Vec<&str> = queries::all().map(|query| query.name).collect();
        let shown: String = name.chars().take(80).collect();
        let known = known.join(", ");
        ApiError::new(
            ErrorCode::QueryNotFound,
            format!("there is no query {shown:?}; choose one of {known}"),
        )
    })?;
    respond(&state, &caller, &query, given, &headers).await
}

/// Runs a query with the parameters of a request.
///
/// # Errors
/// If a parameter is invalid, the caller may not see the rows, or the database does not answer.
pub(super) async fn respond(
    state: &AppState,
    caller: &Caller,
    query: &NamedQuery,
    given: Vec<(String, String)>,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let mut given = once_each(given)?;
    let format = format_of(given.remove("format").as_deref(), headers)?;
    restrict(caller, query, &mut given)?;
    let values = values(query, &given, clock::now())?;
    let body = state.analytics().run(query, &values, format).await?;
    let mut response = ([(header::CONTENT_TYPE, format.media_type())], body).into_response();
    let (name, value) = no_cache();
    response.headers_mut().insert(name, value);
    Ok(response)
}

/// Reads the parameters of a request whose format is fixed.
///
/// # Errors
/// If a parameter is invalid, or the caller may not see the rows.
pub(super) fn parameters(
    caller: &Caller,
    query: &NamedQuery,
    given: Vec<(String, String)>,
) -> Result<Vec<(String, String)>, Refusal> {
    let mut given = once_each(given)?;
    restrict(caller, query, &mut given)?;
    values(query, &given, clock::now())
}

/// Limits a caller who may see one tenant to that tenant.
fn restrict(
    caller: &Caller,
    query: &NamedQuery,
    given: &mut BTreeMap<String, String>,
) -> Result<(), Refusal> {
    if caller.sees_all() {
        return Ok(());
    }
    let forbidden = |message: String| Err(Refusal::new(ErrorCode::Forbidden, message));
    if !query
        .parameters
        .iter()
        .any(|parameter| parameter.name == "tenant")
    {
        return forbidden(format!(
            "{} covers all tenants, but this key belongs to one tenant",
            query.name
        ));
    }
    match given.get("tenant") {
        Some(other) if !other.is_empty() && other != caller.tenant().as_str() => {
            forbidden(format!("this key does not belong to tenant {}", shown(other)))
        }
        _ => {
            given.insert("tenant".to_owned(), caller.tenant().to_string());
            Ok(())
        }
    }
}

/// Collects parameters by name and rejects repeated ones.
fn once_each(given: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Refusal> {
    let mut all = BTreeMap::new();
    for (name, value) in given {
        if all.insert(name.clone(), value).is_some() {
            return Err(invalid(format!("the query: {} occurs twice", shown(&name))));
        }
    }
    Ok(all)
}

fn values(
    query: &NamedQuery,
    given: &BTreeMap<String, String>,
    now: Timestamp,
) -> Result<Vec<(String, String)>, Refusal> {
    if let Some(unknown) = given
        .keys()
        .find(|name| !query.parameters.iter().any(|parameter| parameter.name == **name))
    {
        let known: Vec<&str> = query.parameters.iter().map(|p| p.name.as_str()).collect();
        return Err(invalid(format!(
            "the query: {} has no parameter {}; it has {}, format",
            query.name,
            shown(unknown),
            known.join(", ")
        )));
    }
    let read = query.parameters.iter().map(|parameter| {
        let value = parameter.value(given.get(&parameter.name).map(String::as_str), now);
        value.map(|value| (parameter.name.clone(), value))
    });
    let values: Vec<(String, String)> = read
        .collect::<Result<_, _>>()
        .map_err(|error| Refusal::new(ErrorCode::InvalidParameter, error.to_string()))?;
    let of = |name: &str| {
        values
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    };
    // Both have the same format, so they compare as strings.
    if let (Some(from), Some(to)) = (of("from"), of("to"))
        && from >= to
    {
        return Err(Refusal::new(
            ErrorCode::InvalidParameter,
            format!("from must be before to, but {from} is not before {to}"),
        ));
    }
    Ok(values)
}

/// Chooses the format: by the parameter `format`, else by the header `Accept`, else JSON.
fn format_of(given: Option<&str>, headers: &HeaderMap) -> Result<Format, Refusal> {
    match given {
        Some("json") => return Ok(Format::Json),
        Some("csv") => return Ok(Format::Csv),
        Some("arrow") => return Ok(Format::Arrow),
        Some(other) => {
            return Err(Refusal::new(
                ErrorCode::InvalidParameter,
                format!("format must be one of json, csv, arrow, not {}", shown(other)),
            ));
        }
        None => {}
    }
    // The supported format with the highest weight (RFC 9110, 12.4.2); of equal ones, the first.
    let mut best = (Format::Json, 0);
    let ranges = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    for range in ranges {
        let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
        let format = match parts.next().as_deref() {
            Some("text/csv") => Format::Csv,
            Some("application/vnd.apache.arrow.stream") => Format::Arrow,
            Some("application/json" | "*/*" | "application/*") => Format::Json,
            _ => continue,
        };
        let weight = parts.find_map(|part| Some(thousandths(part.strip_prefix("q=")?)));
        let weight = weight.unwrap_or(1_000);
        if weight > best.1 {
            best = (format, weight);
        }
    }
    Ok(best.0)
}

/// Parses a weight of `Accept` (0 to 1) as thousandths. An invalid weight counts as 1.
fn thousandths(text: &str) -> u16 {
    match text.parse::<f64>() {
        Ok(weight) if (0.0..=1.0).contains(&weight) => (weight * 1e3).round() as u16,
        _ => 1_000,
    }
}

fn shown(text: &str) -> String {
    let text: String = text.chars().take(80).collect();
    format!("{text:?}")
}

fn invalid(message: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(name: &str, given: &[(&str, &str)]) -> Result<Vec<(String, String)>, Refusal> {
        let given = given
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        values(&queries::find(name).unwrap(), &once_each(given.collect())?, now)
    }

    #[test]
    fn missing_parameters_have_defaults() {
        let values = read("slowest", &[("limit", "3")]).unwrap();
        let of = |name: &str| values.iter().find(|(known, _)| known == name).unwrap().1.as_str();
        assert_eq!((of("limit"), of("model")), ("3", ""));
        assert_eq!(of("from"), "2026-11-23 12:00:00.000");
    }

    #[test]
    fn an_invalid_parameter_is_rejected_with_the_valid_values() {
        for (given, code, part) in [
            (
                &[("bucket", "week")][..],
                ErrorCode::InvalidParameter,
                "minute, hour, day",
            ),
            (
                &[("from", "now"), ("to", "now-1h")],
                ErrorCode::InvalidParameter,
                "from must be before to",
            ),
            (
                &[("form", "now")],
                ErrorCode::InvalidRequest,
                "it has from, to, bucket, score",
            ),
            (
                &[("score", "bleu"), ("score", "rouge1")],
                ErrorCode::InvalidRequest,
                "\"score\" occurs twice",
            ),
        ] {
            let refusal = read("scores", given).unwrap_err();
            assert_eq!(refusal.code, code, "{refusal}");
            assert!(refusal.message.contains(part), "{refusal}");
        }
    }

    #[test]
    fn the_format_comes_from_parameter_or_header() {
        let mut headers = HeaderMap::new();
        let format = |given, headers: &HeaderMap| format_of(given, headers).unwrap();
        assert_eq!(format(None, &headers), Format::Json);
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("text/html, text/csv;q=0.9, */*;q=0.8"),
        );
        assert_eq!(format(None, &headers), Format::Csv);
        for (accept, expected) in [
            (
                "text/csv;q=0.5, application/vnd.apache.arrow.stream",
                Format::Arrow,
            ),
            ("text/csv;q=0.1, application/json;q=0.2", Format::Json),
            ("text/csv;q=0, */*;q=0.1", Format::Json),
            ("text/csv, application/json", Format::Csv),
            ("text/html", Format::Json),
        ] {
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(format(None, &headers), expected, "{accept}");
        }
        assert_eq!(format(Some("arrow"), &headers), Format::Arrow);
        let refusal = format_of(Some("xml"), &headers).unwrap_err();
        assert!(refusal.message.contains("json, csv, arrow"), "{refusal}");
    }
}
