//! Stage 8: scores the summary against the reference, for the task `score`.

use precis_schemas::error_code::{ErrorCode, Refusal};
use precis_schemas::scores::{RougeScore, Scores};
use precis_schemas::{JobResult, Outcome, Task};
use precis_scoring::{Rouge, bleu};

/// Scores `summary` against `reference`.
///
/// # Errors
/// When the texts are too long to be compared in bounded time.
pub fn score(summary: &str, reference: &str, stemmed: bool) -> Result<Scores, Refusal> {
    let rouge = Rouge::new(stemmed)
        .try_score(reference, summary, Rouge::DEFAULT_LIMIT)
        .map_err(|error| {
            Refusal::new(
                ErrorCode::TextTooLong,
                format!("summary and reference can't be compared: {error}"),
            )
        })?;
    let prf = |prf: precis_scoring::Prf| RougeScore {
        precision: prf.precision,
        recall: prf.recall,
        fmeasure: prf.fmeasure,
    };
    Ok(Scores {
        rouge1: prf(rouge.rouge1),
        rouge2: prf(rouge.rouge2),
        rouge_l: prf(rouge.rouge_l),
        rouge_lsum: prf(rouge.rouge_lsum),
        bleu: bleu(reference, summary).score,
        stemmed,
    })
}

/// Adds scores to the result of a `score` job that has a summary. The job fails if its texts can't be scored.
///
/// Scoring long texts takes a while, so it runs on a blocking thread.
pub async fn add_scores(result: JobResult, stemmed: bool) -> JobResult {
    let (Task::Score, Some(summary), Some(reference)) = (result.task, &result.summary, &result.reference)
    else {
        return result;
    };
    let (summary, reference) = (summary.clone(), reference.clone());
    let scores = match tokio::task::spawn_blocking(move || score(&summary, &reference, stemmed)).await {
        Ok(scores) => scores,
        Err(panic) => Err(Refusal::new(ErrorCode::Internal, panic.to_string())),
    };
    match scores {
        Ok(scores) => JobResult {
            scores: Some(scores),
            ..result
        },
        Err(refusal) => JobResult {
            outcome: Outcome::Failed,
            summary: None,
            error: Some(refusal),
            ..result
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stemming_compares_stems_instead_of_words() {
        let (summary, reference) = ("the river rises", "the rivers rise");
        let plain = score(summary, reference, false).unwrap();
        let stemmed = score(summary, reference, true).unwrap();
        assert!((plain.rouge1.fmeasure - 1.0 / 3.0).abs() < 1e-12);
        assert!((stemmed.rouge1.fmeasure - 1.0).abs() < 1e-12);
        assert!((plain.bleu - stemmed.bleu).abs() < 1e-12);
        assert!(!plain.stemmed && stemmed.stemmed);
    }

    #[test]
    fn an_empty_text_scores_zero() {
        for (summary, reference) in [("", "the river rises"), ("the river rises", " "), ("", "")] {
            let scores = score(summary, reference, true).unwrap();
            for rouge in [scores.rouge1, scores.rouge2, scores.rouge_l, scores.rouge_lsum] {
                assert_eq!((rouge.precision, rouge.recall, rouge.fmeasure), (0.0, 0.0, 0.0));
            }
            assert_eq!(scores.bleu, 0.0);
        }
    }

    #[test]
    fn texts_that_are_too_long_to_compare_are_refused() {
        let long = "word ".repeat(10_000);
        assert_eq!(
            score(&long, &long, false).unwrap_err().code,
            ErrorCode::TextTooLong
        );
    }
}
