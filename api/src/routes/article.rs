//! `POST /article/summarize` and `POST /article/summarize_batch`: the routes of the local serving
//! component and of the gateway that this product replaces. They answer with the bare summary.
//!
//! Both shapes of body occur: `{"article": "…"}`, and `{"article": {"article": "…"}, "config": {…}}`.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use futures::future::join_all;
use precis_producer::Submission;
use precis_runtime::trace_context::TraceContext;
use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::{Channel, GenerationParams, JobResult};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer, StringDeserializer};
use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;

use crate::extract::JsonBody;
use crate::problem::ApiError;
use crate::state::AppState;
use crate::{submit, view};

/// Beams of a request that leaves them open in its `config`.
const BEAMS: u32 = 8;
/// Fewest tokens: a minimum length of 10, of which the first is the decoder's own start.
const MIN_NEW_TOKENS: u32 = 9;
/// Most tokens: a maximum length of 64, less the same.
const MAX_NEW_TOKENS: u32 = 63;

/// Body of `POST /article/summarize`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct One {
    article: Wrapped<Article>,
    #[serde(default)]
    config: Option<LegacyConfig>,
}

/// Body of `POST /article/summarize_batch`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Many {
    articles: Wrapped<Articles>,
    #[serde(default)]
    config: Option<LegacyConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Article {
    article: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Articles {
    articles: Vec<String>,
}

/// How to generate, in the words of these routes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LegacyConfig {
    /// Beams; the first spelling is that of the routes' first implementation.
    #[serde(default, rename = "num_beans", alias = "num_beams")]
    beams: Option<u32>,
    #[serde(default)]
    temperature: Option<f64>,
}

/// What may come by itself or inside of an object with one field.
trait Wrappable: DeserializeOwned {
    /// What it is by itself.
    type Inner: DeserializeOwned;
    /// What is expected, for messages.
    const EXPECTED: &'static str;
    /// Takes it out of the object.
    fn unwrapped(self) -> Self::Inner;
}

impl Wrappable for Article {
    type Inner = String;
    const EXPECTED: &'static str = "a text, or an object with the text in its field `article`";

    fn unwrapped(self) -> String {
        self.article
    }
}

impl Wrappable for Articles {
    type Inner = Vec<String>;
    const EXPECTED: &'static str = "a list of texts, or an object with the list in its field `articles`";

    fn unwrapped(self) -> Vec<String> {
        self.articles
    }
}

/// Something by itself or wrapped; read without a detour, so that errors keep their place.
#[derive(Debug)]
struct Wrapped<T: Wrappable>(T::Inner);

impl<'de, T: Wrappable> Deserialize<'de> for Wrapped<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Wrappable> Visitor<'de> for Either<T> {
            type Value = Wrapped<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                T::Inner::deserialize(StrDeserializer::new(text)).map(Wrapped)
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
                T::Inner::deserialize(StringDeserializer::new(text)).map(Wrapped)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
                T::Inner::deserialize(SeqAccessDeserializer::new(items)).map(Wrapped)
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(|whole| Wrapped(whole.unwrapped()))
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// Lengths and the cut after the first sentence are always those of these routes. With a `config`, the
/// method is theirs too: beams of samples. Without one it is the deployment's.
fn params(config: Option<LegacyConfig>) -> GenerationParams {
    let common = GenerationParams {
        min_new_tokens: Some(MIN_NEW_TOKENS),
        max_new_tokens: Some(MAX_NEW_TOKENS),
        first_sentence: Some(true),
        ..GenerationParams::default()
    };
    match config {
        None => common,
        Some(config) => GenerationParams {
            num_beams: Some(config.beams.unwrap_or(BEAMS)),
            temperature: Some(config.temperature.unwrap_or(1.0)),
            do_sample: Some(true),
            ..common
        },
    }
}

/// One article in, its summary out.
pub(crate) async fn summarize(
    State(state): State<AppState>,
    Extension(trace): Extension<TraceContext>,
    JsonBody(body): JsonBody<One>,
) -> Result<Json<String>, ApiError> {
    let until = Instant::now() + patience(&state);
    let request = submit::Request::of_text(Channel::Local, body.article.0, params(body.config));
    let submission = submit::prepare(&state, request, &trace).await?;
    summary(&state, &submission, until).await.map(Json)
}

/// Articles in, their summaries out, in the same order; all or nothing.
pub(crate) async fn summarize_batch(
    State(state): State<AppState>,
    Extension(trace): Extension<TraceContext>,
    JsonBody(body): JsonBody<Many>,
) -> Result<Json<Vec<String>>, ApiError> {
    let until = Instant::now() + patience(&state);
    let articles = body.articles.0;
    let most = state.limits().max_batch_texts;
    if articles.len() > most {
        let given = articles.len();
        return Err(ApiError::new(
            ErrorCode::InvalidParameter,
            format!("there are {given} articles; {most} are allowed in one call"),
        ));
    }
    let params = params(body.config);
    // All are checked before the first is published.
    let mut submissions = Vec::with_capacity(articles.len());
    for (index, text) in articles.into_iter().enumerate() {
        let request = submit::Request::of_text(Channel::Local, text, params.clone());
        let submission = submit::prepare(&state, request, &trace)
            .await
            .map_err(|refusal| ApiError::from(refusal).at(&format!("articles[{index}]")))?;
        submissions.push(submission);
    }
    let state = &state;
    let summaries = submissions
        .iter()
        .enumerate()
        .map(|(index, submission)| async move {
            summary(state, submission, until)
                .await
                .map_err(|error| error.at(&format!("articles[{index}]")))
        });
    let summaries: Result<Vec<String>, ApiError> = join_all(summaries).await.into_iter().collect();
    summaries.map(Json)
}

fn patience(state: &AppState) -> Duration {
    Duration::from_secs(state.api().sync_wait_seconds)
}

/// Publishes a job and waits for its summary.
async fn summary(state: &AppState, submission: &Submission, until: Instant) -> Result<String, ApiError> {
    // Before the publish: a fast worker may be done before its acknowledgement is here.
    let mut waiter = state.waiters().register(&submission.job.id);
    let handle = submit::publish(state, submission).await?;
    let result = waiter.result(state, until).await;
    let result = result.ok_or_else(|| {
        let message = if state.stop().is_cancelled() {
            "this server is about to stop; the job goes on".to_owned()
        } else {
            let seconds = state.api().sync_wait_seconds;
            format!("the summary was not ready within {seconds} seconds; the job goes on")
        };
        ApiError::new(ErrorCode::WaitTimeout, message).of_job(handle.to_string())
    })?;
    text_of(result).map_err(|refusal| ApiError::from(refusal).of_job(handle.to_string()))
}

fn text_of(result: JobResult) -> Result<String, Refusal> {
    match (view::refusal_of(&result), result.summary) {
        (Some(refusal), _) => Err(refusal),
        (None, summary) => Ok(summary.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::parse;

    #[test]
    fn both_shapes_are_read() {
        for body in [
            r#"{"article":"Rain."}"#,
            r#"{"article":{"article":"Rain."},"config":null}"#,
        ] {
            assert_eq!(
                parse::<One>(body.as_bytes()).unwrap().article.0,
                "Rain.",
                "{body}"
            );
        }
        for body in [
            r#"{"articles":["a","b"]}"#,
            r#"{"articles":{"articles":["a","b"]},"config":{}}"#,
        ] {
            assert_eq!(
                parse::<Many>(body.as_bytes()).unwrap().articles.0,
                ["a", "b"],
                "{body}"
            );
        }
    }

    #[test]
    fn a_config_is_read_in_either_spelling_and_not_twice() {
        let with = |config: &str| parse::<One>(format!(r#"{{"article":"x","config":{config}}}"#).as_bytes());
        let beams = |config: &str| params(with(config).unwrap().config);
        assert_eq!(beams("{\"num_beans\": 5}").num_beams, Some(5));
        assert_eq!(beams("{\"num_beams\": 6}").num_beams, Some(6));
        let defaults = beams("{}");
        assert_eq!((defaults.num_beams, defaults.temperature), (Some(8), Some(1.0)));
        assert_eq!(defaults.do_sample, Some(true));
        let integer = beams("{\"num_beans\": 8, \"temperature\": 1}");
        assert_eq!(integer.temperature, Some(1.0));
        for bad in [
            "{\"num_beans\":1,\"num_beams\":1}",
            "{\"beams\":1}",
            "{\"temperature\":\"hot\"}",
            "7",
        ] {
            assert!(with(bad).is_err(), "{bad}");
        }
        let none = params(None);
        assert_eq!((none.num_beams, none.do_sample), (None, None));
        assert_eq!(
            (none.min_new_tokens, none.max_new_tokens, none.first_sentence),
            (Some(9), Some(63), Some(true))
        );
    }

    #[test]
    fn what_is_neither_shape_is_refused_with_both() {
        for (body, part) in [
            (
                r#"{"article":7}"#,
                "article: invalid type: integer `7`, expected a text, or an object",
            ),
            (r#"{"article":["x"]}"#, "article: invalid type: sequence"),
            (r#"{"article":{"text":"x"}}"#, "unknown field `text`"),
            (r#"{"text":"x"}"#, "unknown field `text`"),
            (r#"{"article":"x","num_beans":3}"#, "unknown field `num_beans`"),
        ] {
            let error = format!("{:?}", parse::<One>(body.as_bytes()).unwrap_err());
            assert!(error.contains(part), "{body}: {error}");
        }
        for body in [
            r#"{"articles":"x"}"#,
            r#"{"articles":[1]}"#,
            r#"{"articles":{"articles":"x"}}"#,
        ] {
            assert!(parse::<Many>(body.as_bytes()).is_err(), "{body}");
        }
    }
}
