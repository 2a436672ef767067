//! `POST /article/summarize` and `POST /article/summarize_batch`: the routes of the local serving
//! component and of the gateway before MLflow. They answer with the bare summary.
//!
//! The two have bodies of their own: `{"article": {"article": "…"}, "config": {…}}` is the local component's,
//! `{"article": "…"}` the gateway's. Either is taken, and tells by which channel the request came.

use axum::extract::State;
use axum::{Extension, Json};
use precis_runtime::trace_context::TraceContext;
use serde::Deserialize;

use super::knobs::{Knobs, params};
use super::wrapped::{Wrappable, Wrapped};
use crate::access::Caller;
use crate::compat::sync::{Call, Item};
use crate::http::extract::JsonBody;
use crate::http::problem::ApiError;
use crate::state::AppState;

/// Body of `POST /article/summarize`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct One {
    article: Wrapped<Article>,
    #[serde(default)]
    config: Option<Knobs>,
}

/// Body of `POST /article/summarize_batch`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Many {
    articles: Wrapped<Articles>,
    #[serde(default)]
    config: Option<Knobs>,
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

/// One article in, its summary out.
pub(crate) async fn summarize(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    JsonBody(body): JsonBody<One>,
) -> Result<Json<String>, ApiError> {
    let Wrapped { inner: text, channel } = body.article;
    let call = Call::new(state, caller, trace, channel);
    call.one(Item::from(text), params(body.config)).await.map(Json)
}

/// Articles in, their summaries out, in the same order; all or nothing.
pub(crate) async fn summarize_batch(
    State(state): State<AppState>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    JsonBody(body): JsonBody<Many>,
) -> Result<Json<Vec<String>>, ApiError> {
    let Wrapped {
        inner: texts,
        channel,
    } = body.articles;
    let items = texts.into_iter().map(Item::from).collect();
    let call = Call::new(state, caller, trace, channel);
    call.many("articles", items, &params(body.config)).await.map(Json)
}

#[cfg(test)]
mod tests {
    use precis_schemas::Channel;

    use super::*;
    use crate::http::extract::parse;

    #[test]
    fn both_shapes_are_read_and_tell_the_channel() {
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
