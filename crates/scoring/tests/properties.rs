//! Properties that hold for any text.

use precis_scoring::sentence::{Rules, first_sentence_by, sentence_ranges};
use precis_scoring::{Bootstrap, Prf, Rouge, RougeScores, bleu, mean, sentences, signals, summarize};
use proptest::prelude::*;
use std::collections::HashSet;

/// Text of few words and many signs, so that overlaps and boundaries are frequent.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "the", "The", "cat", "cats", "sat", "He", "U.S", "Mr", "J", "p.m", "3.2%", "77,410.5", "No", "5",
            "caf\u{e9}", "\u{130}x", "k", "\u{212a}", "\u{1f600}", "\u{4e2d}\u{6587}", "&quot;", "<skipped>",
        ])
        .prop_map(str::to_owned),
        4 => prop::sample::select(vec![
            " ", " ", ". ", ".", "?", "!", "...", ". . .", ",", "-", "--", "\"", "'", "\u{201d}", "\u{2019}", ")",
            "(", "\n", "-\n", "\t", "\u{a0}", "\u{1c}", "\u{2028}", "\0",
        ])
        .prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Words, by definition.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

fn ngrams(words: &[String], order: usize) -> HashSet<&[String]> {
    words.windows(order).collect()
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// Fragments by the two pointers of Grusky et al. 2018, figure 2.
fn fragments(article: &[String], summary: &[String]) -> Vec<usize> {
    let (mut lengths, mut i) = (vec![], 0);
    while i < summary.len() {
        let (mut longest, mut j) = (0, 0);
        while j < article.len() {
            let pairs = summary[i..].iter().zip(&article[j..]);
            let length = pairs.take_while(|(ours, theirs)| ours == theirs).count();
            longest = longest.max(length);
            j += length.max(1);
        }
        if longest > 0 {
            lengths.push(longest);
        }
        i += longest.max(1);
    }
    lengths
}

fn parts(scores: &RougeScores) -> [Prf; 4] {
    [scores.rouge1, scores.rouge2, scores.rouge_l, scores.rouge_lsum]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rouge_is_between_0_and_1(reference in text(), prediction in text(), stem: bool) {
        let scores = Rouge::new(stem).score(&reference, &prediction);
        for Prf { precision, recall, fmeasure } in parts(&scores) {
            for figure in [precision, recall, fmeasure] {
                prop_assert!((0.0..=1.0).contains(&figure), "{scores:?}");
            }
            prop_assert!(fmeasure <= precision.max(recall) + 1e-15);
            prop_assert!(fmeasure + 1e-15 >= precision.min(recall));
        }
    }

    #[test]
    fn rouge_of_a_text_with_itself_is_1_or_absent(text in text(), stem: bool) {
        let scores = Rouge::new(stem).score(&text, &text);
        for prf in parts(&scores) {
            let one = Prf { precision: 1.0, recall: 1.0, fmeasure: 1.0 };
            prop_assert!(prf == one || prf == Prf::default(), "{prf:?}");
        }
    }

    #[test]
    fn swapping_the_sides_swaps_precision_and_recall(a in text(), b in text(), stem: bool) {
        let rouge = Rouge::new(stem);
        let (there, back) = (rouge.score(&a, &b), rouge.score(&b, &a));
        // Except ROUGE-Lsum, which takes the union over the lines of the reference.
        for (x, y) in parts(&there).iter().zip(parts(&back)).take(3) {
            prop_assert_eq!((x.precision, x.recall), (y.recall, y.precision));
            prop_assert!((x.fmeasure - y.fmeasure).abs() < 1e-15);
        }
    }

    #[test]
    fn rouge_lsum_of_one_line_equals_rouge_l(a in text(), b in text()) {
        let scores = Rouge::default().score(&a.replace('\n', " "), &b.replace('\n', " "));
        prop_assert_eq!(scores.rouge_l, scores.rouge_lsum);
    }

    #[test]
    fn signals_follow_their_formulae(article in text(), summary in text()) {
        let found = signals(&article, &summary);
        let (article, summary) = (words(&article), words(&summary));
        prop_assert_eq!(found.article_words, article.len() as u64);
        prop_assert_eq!(found.summary_words, summary.len() as u64);
        prop_assert_eq!(found.compression_ratio, share(article.len(), summary.len()));
        for order in 1..=3 {
            let (ours, theirs) = (ngrams(&summary, order), ngrams(&article, order));
            let novel = ours.iter().filter(|ngram| !theirs.contains(*ngram)).count();
            prop_assert_eq!(found.novel_ngrams[order - 1], share(novel, ours.len()));
        }
        let trigrams = summary.windows(3).len();
        prop_assert_eq!(found.repetition_rate, share(trigrams - ngrams(&summary, 3).len(), trigrams));
        let fragments = fragments(&article, &summary);
        let squares: usize = fragments.iter().map(|length| length * length).sum();
        prop_assert_eq!(found.coverage, share(fragments.iter().sum(), summary.len()));
        prop_assert_eq!(found.density, share(squares, summary.len()));
    }

    #[test]
    fn bleu_is_between_0_and_100(reference in text(), prediction in text()) {
        let found = bleu(&reference, &prediction);
        prop_assert!((0.0..=100.0).contains(&found.score), "{found:?}");
        prop_assert!((0.0..=1.0).contains(&found.bp), "{found:?}");
        for at in 0..4 {
            prop_assert!((0.0..=100.0).contains(&found.precisions[at]), "{found:?}");
            prop_assert!(found.counts[at] <= found.totals[at], "{found:?}");
        }
    }

    #[test]
    fn bleu_of_four_tokens_or_more_with_themselves_is_100(text in text()) {
        let found = bleu(&text, &text);
        let expected = if found.sys_len >= 4 { 100.0 } else { 0.0 };
        prop_assert!((found.score - expected).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn the_mean_lies_within_the_figures_and_its_interval_too(
        pairs in prop::collection::vec((text(), text()), 1..6), seed: u64,
    ) {
        let rouge = Rouge::default();
        let scores: Vec<_> = pairs.iter().map(|(a, b)| rouge.score(a, b)).collect();
        let bootstrap = Bootstrap { resamples: 50, seed, ..Bootstrap::default() };
        let summary = summarize(&scores, &bootstrap).unwrap();
        prop_assert_eq!(Some(summary.mean), mean(&scores));
        let of = |s: &RougeScores| s.rouge1.fmeasure;
        let least = scores.iter().map(of).fold(f64::INFINITY, f64::min);
        let most = scores.iter().map(of).fold(0.0, f64::max);
        for figure in [of(&summary.low), of(&summary.mean), of(&summary.high)] {
            prop_assert!(figure >= least - 1e-12 && figure <= most + 1e-12);
        }
        prop_assert!(of(&summary.low) <= of(&summary.high));
    }

    #[test]
    fn sentences_and_the_space_between_them_are_the_text(text in text(), extended: bool) {
        let rules = if extended { Rules::Extended } else { Rules::Nltk };
        let ranges = sentence_ranges(&text, rules);
        let blank = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
        let mut end = 0;
        for range in &ranges {
            prop_assert!(range.start >= end && range.start < range.end);
            prop_assert!(text[end..range.start].chars().all(blank), "{ranges:?}");
            prop_assert!(text.is_char_boundary(range.end));
            end = range.end;
        }
        prop_assert!(text[end..].chars().all(blank), "{ranges:?}");
        let first = ranges.first().map_or("", |range| &text[range.clone()]);
        prop_assert_eq!(first_sentence_by(&text, rules), first);
        prop_assert_eq!(first.is_empty(), text.chars().all(blank));
        if !extended {
            let found: Vec<_> = ranges.into_iter().map(|range| &text[range]).collect();
            prop_assert_eq!(sentences(&text), found);
        }
    }

    #[test]
    fn signals_keep_their_bounds(article in text(), summary in text()) {
        let found = signals(&article, &summary);
        let words = found.summary_words as f64;
        for share in [found.coverage, found.repetition_rate].into_iter().chain(found.novel_ngrams) {
            prop_assert!((0.0..=1.0).contains(&share), "{found:?}");
        }
        prop_assert!(found.density >= found.coverage && found.density <= words, "{found:?}");
        prop_assert!(found.compression_ratio >= 0.0 && found.compression_ratio.is_finite());
        prop_assert!(!(found.empty && found.truncated));
        prop_assert_eq!(found.empty, found.summary_words == 0);
    }

    #[test]
    fn a_text_fully_covers_itself(text in text()) {
        let found = signals(&text, &text);
        prop_assert_eq!(found.novel_ngrams, [0.0; 3]);
        prop_assert_eq!(found.coverage, f64::from(u8::from(!found.empty)));
        prop_assert_eq!(found.density, found.summary_words as f64);
    }
}
