//! `POST /article/summarize` and `POST /article/summarize_batch`, which return bare summaries.
//!
//! Two services had these routes. The local serving component expects `{"article": {"article": "…"}, "config": {…}}`,
//! the gateway in front of MLflow `{"article": "…"}`. The body determines the channel.

use axum::extract::State;
use axum::{Extension, Json};
use precis_runtime::trace_context::TraceContext;
use serde::Deserialize;

use super::legacy_params::{LegacyParams, generation_params};
use super::nested::{Nested, PlainOrNested};
use crate::access::Caller;
use crate::compat::sync_call::{Item, SyncCall};
use crate::gateway::state::AppState;
use crate::http::extract::JsonBody;
use crate::http::problem::ApiError;

/// Body of `POST /article/summarize`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct One {
    article: PlainOrNested<Article>,
    #[serde(default)]
    config: Option<LegacyParams>,
}

/// Body of `POST /article/summarize_batch`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Many {
    articles: PlainOrNested<Articles>,
    #[serde(default)]
    config: Option<LegacyParams>,
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

impl Nested for Article {
    type Inner = String;
    const EXPECTED: &'static str = "a text, or an object with the text in its field `article`";

    fn into_inner(self) -> String {
        self.article
    }
}

impl Nested for Articles {
    type Inner = Vec<String>;
    const EXPECTED: &'static str = "a list of texts, or an object with the list in its field `articles`";

    fn into_inner(self) -> Vec<String> {
        self.articles
    }
}

/// Summarizes an article.
pub(crate) async fn summarize(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    JsonBody(body): JsonBody<One>,
) -> Result<Json<String>, ApiError> {
    let PlainOrNested { inner: text, channel } = body.article;
    let call = SyncCall::new(state, caller, trace, channel);
    call.summarize(Item::from(text), generation_params(body.config))
        .await
        .map(Json)
}

/// Summarizes several articles, all or none, in order.
pub(crate) async fn summarize_batch(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    JsonBody(body): JsonBody<Many>,
) -> Result<Json<Vec<String>>, ApiError> {
    let PlainOrNested {
        inner: texts,
        channel,
    } = body.articles;
    let items = texts.into_iter().map(Item::from).collect();
    let call = SyncCall::new(state, caller, trace, channel);
    call.summarize_all("articles", items, &generation_params(body.config))
        .await
        .map(Json)
}

#[cfg(test)]
mod tests {
    use precis_schemas::Channel;

    use super::*;
    use crate::http::extract::parse;

    #[test]
    fn both_formats_parse_and_determine_the_channel() {
        for (body, channel) in [
            (r#"{"article":"Rain."}"#, Channel::Mlflow),
            (r#"{"article":{"article":"Rain."},"config":null}"#, Channel::Local),
        ] {
            let article = parse::<One>(body.as_bytes()).unwrap().article;
            assert_eq!(
                (article.inner.as_str(), article.channel),
                ("Rain.", channel),
                "{body}"
            );
        }
        for (body, channel) in [
            (r#"{"articles":["a","b"]}"#, Channel::Mlflow),
            (
                r#"{"articles":{"articles":["a","b"]},"config":{}}"#,
                Channel::Local,
            ),
        ] {
            let articles = parse::<Many>(body.as_bytes()).unwrap().articles;
            assert_eq!(articles.inner, ["a", "b"], "{body}");
            assert_eq!(articles.channel, channel, "{body}");
        }
    }

    #[test]
    fn a_config_accepts_one_of_both_spellings() {
        let with = |config: &str| parse::<One>(format!(r#"{{"article":"x","config":{config}}}"#).as_bytes());
        let beams = |config: &str| generation_params(with(config).unwrap().config);
        assert_eq!(beams("{\"num_beans\": 5}").num_beams, Some(5));
        assert_eq!(beams("{\"num_beams\": 6}").num_beams, Some(6));
        let defaults = beams("{}");
        assert_eq!((defaults.num_beams, defaults.temperature), (Some(8), Some(1.0)));
        assert_eq!(defaults.do_sample, Some(true));
        let integer = beams("{\"num_beans\": 8, \"temperature\": 1}");
        assert_eq!(integer.temperature, Some(1.0));
        for invalid in [
            "{\"num_beans\":1,\"num_beams\":1}",
            "{\"beams\":1}",
            "{\"temperature\":\"hot\"}",
            "7",
        ] {
            assert!(with(invalid).is_err(), "{invalid}");
        }
        let none = generation_params(None);
        assert_eq!((none.num_beams, none.do_sample), (None, None));
        assert_eq!(
            (none.min_new_tokens, none.max_new_tokens, none.first_sentence),
            (Some(9), Some(63), Some(true))
        );
    }

    #[test]
    fn an_error_names_both_formats() {
        for (body, part) in [
            (
                r#"{"article":7}"#,
                "article: invalid type: integer `7`, expected a text, or an object",
            ),
            (r#"{"article":["x"]}"#, "article: invalid type: array"),
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
