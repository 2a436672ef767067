//! The sample articles of the repository.

use serde::Deserialize;

/// A sample article.
#[derive(Debug, Clone, Deserialize)]
pub struct Sample {
    /// Its id.
    pub id: String,
    /// The article.
    pub article: String,
    /// A summary by a human.
    pub reference: String,
}

/// All samples.
pub fn all() -> Vec<Sample> {
    include_str!("../../samples/articles.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("samples/articles.jsonl holds one article a line"))
        .collect()
}

/// One sample.
pub fn get(id: &str) -> Sample {
    all()
        .into_iter()
        .find(|sample| sample.id == id)
        .expect("the sample exists")
}
