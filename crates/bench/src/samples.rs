//! The sample articles of the repository.

use anyhow::Context;
use serde::Deserialize;

const ARTICLES: &str = include_str!("../../../samples/articles.jsonl");

/// An article with a summary that a human wrote.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Article {
    pub(crate) article: String,
    pub(crate) reference: String,
}

/// Returns the sample articles.
pub(crate) fn articles() -> anyhow::Result<Vec<Article>> {
    parse_articles(ARTICLES).context("samples/articles.jsonl")
}

/// Parses articles from JSON Lines.
pub(crate) fn parse_articles(lines: &str) -> anyhow::Result<Vec<Article>> {
    let articles: Result<Vec<Article>, _> = lines.lines().map(serde_json::from_str).collect();
    articles.context("expected one JSON object with `article` and `reference` per line")
}
