//! Compares `/invocations` with MLflow's scoring server on the bodies in `tests/contracts/mlflow/bodies.json`.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;

use super::error::MlflowError;
use crate::compat::invocation::{self, InvocationError};

/// A body, and what MLflow makes of it.
#[derive(Deserialize)]
struct Recorded {
    name: String,
    content_type: String,
    body: Option<String>,
    body_hex: Option<String>,
    status: u16,
    texts: Option<Vec<String>>,
    error_code: Option<String>,
}

/// What a body means: the texts, or status and code of the error.
type Meaning = Result<Vec<String>, (u16, Option<String>)>;

fn recorded(body: &Recorded) -> Meaning {
    match &body.texts {
        Some(texts) => Ok(texts.clone()),
        None => Err((body.status, body.error_code.clone())),
    }
}

fn read(body: &Recorded) -> Meaning {
    let bytes = match (&body.body, &body.body_hex) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(digits)) => {
            let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            (0..digits.len()).step_by(2).map(pair).collect()
        }
        (None, None) => Vec::new(),
    };
    let mut headers = HeaderMap::new();
    let content_type = HeaderValue::from_str(&body.content_type).unwrap();
    headers.insert(header::CONTENT_TYPE, content_type);
    let parsed = invocation::check_media_type(&headers)
        .map_err(InvocationError::Mlflow)
        .and_then(|()| invocation::parse(&headers, &Bytes::from(bytes)));
    match parsed {
        Ok(parsed) => {
            let texts: Vec<String> = parsed.items.into_iter().map(|item| item.text).collect();
            // The submission refuses an empty text, as the recorded model refuses a missing value.
            match texts.iter().any(|text| text.trim().is_empty()) {
                true => Err((400, Some("BAD_REQUEST".to_owned()))),
                false => Ok(texts),
            }
        }
        Err(InvocationError::Mlflow(error)) => {
            let code = match &error {
                MlflowError::Json(body) => Some(body.error_code.to_owned()),
                MlflowError::MediaType(_) => None,
            };
            Err((error.status().as_u16(), code))
        }
        Err(InvocationError::Problem(error)) => panic!("{}: {error:?}", body.name),
    }
}

#[test]
fn bodies_mean_the_same_as_in_mlflow() {
    let bodies = include_str!("../../../../tests/contracts/mlflow/bodies.json");
    let bodies: Vec<Recorded> = serde_json::from_str(bodies).unwrap();
    // Reasons, and the bodies that are read differently because of them.
    let reasons = include_str!("../../../../tests/contracts/mlflow/different.json");
    let reasons: BTreeMap<&str, Vec<&str>> = serde_json::from_str(reasons).unwrap();
    let mut expected: Vec<&str> = reasons.into_values().flatten().collect();
    let different = bodies.iter().filter(|body| recorded(body) != read(body));
    let mut found: Vec<&str> = different.map(|body| body.name.as_str()).collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert!(bodies.len() - found.len() > 200);
}
