//! Scores for summaries, and the sentence split that ends one.
//!
//! Everything here is a pure function of its arguments: no I/O, no clock, no global random state. Equal
//! input gives equal output on every machine, so a score can be recomputed and compared at any later time.
//!
//! | module | what it measures | agrees with |
//! | --- | --- | --- |
//! | [`mod@rouge`] | n-gram and subsequence overlap with a reference | Google's `rouge-score` 0.1.2, bit for bit |
//! | [`mod@aggregate`] | mean ROUGE of many pairs, with a bootstrap interval | the plain mean of the figures above |
//! | [`mod@bleu`] | BLEU of one pair | `sacrebleu` 2.6.0 `corpus_bleu` on one pair, within 1e-9 |
//! | [`mod@signals`] | what can be said of a summary without a reference | Grusky et al. 2018 and others, cited there |
//! | [`mod@sentence`] | where a sentence ends | NLTK's Punkt; see the module for how closely |
//!
//! ```
//! use precis_scoring::{Rouge, bleu, first_sentence};
//!
//! let scores = Rouge::default().score("the cat sat on the mat", "the cat lay on the mat");
//! assert_eq!(scores.rouge1.recall, 5.0 / 6.0);
//! assert_eq!(bleu("the cat sat on the mat", "the cat sat on the mat").score.round(), 100.0);
//! assert_eq!(first_sentence("Mr. Hay left at 5 p.m. on Friday. Ms. Ray stayed."), "Mr. Hay left at 5 p.m. on Friday.");
//! ```

pub mod aggregate;
pub mod bleu;
mod lcs;
pub mod rouge;
pub mod sentence;
pub mod signals;
mod space;
mod words;

pub use aggregate::{Bootstrap, Interval, RougeSummary, interval, mean, summarize};
pub use bleu::{BleuScore, bleu};
pub use rouge::{Prf, Rouge, RougeFmeasures, RougeScores, TooLong};
pub use sentence::{first_sentence, sentence_ranges, sentences};
pub use signals::{Signals, signals, try_signals};
