//! Cuts a generated text to the summary that the client asked for.

use precis_engine::StopRule;
use precis_schemas::GenerationParams;
use precis_scoring::sentence::{Rules, first_sentence_by, sentence_ranges};

/// Words of the second sentence after which the first one is final: the words behind a full stop decide whether it
/// ends a sentence.
const DECIDING_WORDS: usize = 2;

/// Returns the trimmed text, or only its first sentence unless `params.first_sentence` is `false`.
pub fn summary_of(text: &str, params: &GenerationParams) -> String {
    let text = text.trim();
    if params.first_sentence.unwrap_or(true) {
        first_sentence_by(text, Rules::Extended).trim().to_owned()
    } else {
        text.to_owned()
    }
}

/// Returns a rule that stops generation once more text can't change the first sentence.
pub fn first_sentence_rule() -> StopRule {
    StopRule::new(|text| {
        let sentences = sentence_ranges(text, Rules::Extended);
        let second = sentences.get(1).map(|range| &text[range.clone()]);
        second.is_some_and(|second| second.split_whitespace().count() > DECIDING_WORDS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopping_early_keeps_the_same_first_sentence() {
        let articles = include_str!("../../samples/articles.jsonl");
        let texts = articles.lines().flat_map(|line| {
            let article: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = article["text"]
                .as_str()
                .or(article["article"].as_str())
                .unwrap()
                .to_owned();
            // Starting at each sentence in turn yields many first sentences from few articles.
            let starts: Vec<usize> = sentence_ranges(&text, Rules::Extended)
                .into_iter()
                .map(|range| range.start)
                .collect();
            starts
                .into_iter()
                .map(move |start| text[start..].to_owned())
                .collect::<Vec<_>>()
        });
        let (rule, params) = (first_sentence_rule(), GenerationParams::default());
        let mut stopped = 0;
        for text in texts {
            let whole = summary_of(&text, &params);
            let limit = text.len().min(2 * whole.len() + 200);
            let ends = (1..limit).filter(|end| text.is_char_boundary(*end));
            let mut prefixes = ends.map(|end| &text[..end]);
            // The engine applies the rule after every token and stops at the first match.
            if let Some(prefix) = prefixes.find(|prefix| rule.is_end(prefix)) {
                assert_eq!(summary_of(prefix, &params), whole, "{prefix:?}");
                stopped += 1;
            }
        }
        assert!(stopped > 100, "only {stopped} texts stopped early");
    }

    #[test]
    fn a_summary_is_the_first_sentence_unless_the_client_asks_for_all() {
        let text = " It rained 3.5 cm on No. 5 Wharf. Nobody minded. ";
        let all = GenerationParams {
            first_sentence: Some(false),
            ..Default::default()
        };
        assert_eq!(
            summary_of(text, &GenerationParams::default()),
            "It rained 3.5 cm on No. 5 Wharf."
        );
        assert_eq!(
            summary_of(text, &all),
            "It rained 3.5 cm on No. 5 Wharf. Nobody minded."
        );
        assert_eq!(summary_of("  ", &all), "");
    }
}
