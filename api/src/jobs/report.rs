//! The scores of a batch as REST shows them: pair by pair, and over all.

use precis_schemas::JobId;
use precis_schemas::rest::{Aggregate, Figures, JobView, PairScores, ScoreLinks, ScoreReport};
use precis_schemas::scores::{Prf, Scores};
use precis_scoring::{Bootstrap, RougeScores, interval, summarize};

/// The report of a batch whose pairs are these jobs.
pub(crate) fn report(id: &JobId, views: Vec<JobView>) -> ScoreReport {
    let done = views.iter().all(|view| view.status.is_final());
    let pairs: Vec<PairScores> = views.into_iter().map(pair).collect();
    let scores: Vec<Scores> = pairs.iter().filter_map(|pair| pair.scores).collect();
    ScoreReport {
        links: ScoreLinks {
            this: format!("/v1/scores/{id}"),
        },
        id: id.clone(),
        done,
        pairs,
        aggregate: aggregate(&scores),
    }
}

fn pair(view: JobView) -> PairScores {
    PairScores {
        job_id: view.id,
        status: view.status,
        scores: view.scores,
        summary: view.summary,
        error: view.error,
    }
}

fn aggregate(scores: &[Scores]) -> Option<Aggregate> {
    let bootstrap = Bootstrap::default();
    let rouge: Vec<RougeScores> = scores.iter().map(rouge_of).collect();
    let bleu: Vec<f64> = scores.iter().map(|scores| scores.bleu).collect();
    let rouge = summarize(&rouge, &bootstrap)?;
    let bleu = interval(&bleu, &bootstrap)?;
    Some(Aggregate {
        count: rouge.count,
        mean: figures(&rouge.mean, bleu.mean),
        low: figures(&rouge.low, bleu.low),
        high: figures(&rouge.high, bleu.high),
        confidence: bootstrap.confidence,
        resamples: bootstrap.resamples,
    })
}

fn rouge_of(scores: &Scores) -> RougeScores {
    let prf = |prf: Prf| precis_scoring::Prf {
        precision: prf.precision,
        recall: prf.recall,
        fmeasure: prf.fmeasure,
    };
    RougeScores {
        rouge1: prf(scores.rouge1),
        rouge2: prf(scores.rouge2),
        rouge_l: prf(scores.rouge_l),
        rouge_lsum: prf(scores.rouge_lsum),
    }
}

fn figures(rouge: &RougeScores, bleu: f64) -> Figures {
    let prf = |prf: precis_scoring::Prf| Prf {
        precision: prf.precision,
        recall: prf.recall,
        fmeasure: prf.fmeasure,
    };
    Figures {
        rouge1: prf(rouge.rouge1),
        rouge2: prf(rouge.rouge2),
        rouge_l: prf(rouge.rouge_l),
        rouge_lsum: prf(rouge.rouge_lsum),
        bleu,
    }
}

#[cfg(test)]
mod tests {
    use precis_schemas::{JobResult, Outcome};

    use super::*;
    use crate::jobs::view;
    use crate::testing::result;

    fn scored(fmeasure: f64, bleu: f64) -> JobView {
        let rouge1 = Prf {
            fmeasure,
            ..Prf::default()
        };
        view::ended(JobResult {
            scores: Some(Scores {
                rouge1,
                bleu,
                ..Scores::default()
            }),
            ..result("a", 7)
        })
    }

    #[test]
    fn means_are_over_the_pairs_that_have_scores() {
        let failed = view::ended(JobResult {
            outcome: Outcome::Failed,
            summary: None,
            ..result("b", 8)
        });
        let views = vec![scored(0.2, 10.0), failed.clone(), scored(0.4, 30.0)];
        let shown = report(&"batch".parse().unwrap(), views);
        let aggregate = shown.aggregate.unwrap();
        assert_eq!((shown.done, aggregate.count), (true, 2));
        assert!((aggregate.mean.rouge1.fmeasure - 0.3).abs() < 1e-12);
        assert!((aggregate.mean.bleu - 20.0).abs() < 1e-12);
        assert_eq!((aggregate.low.bleu, aggregate.high.bleu), (10.0, 30.0));
        assert_eq!(shown.links.this, "/v1/scores/batch");
        let none = report(&"batch".parse().unwrap(), vec![failed]);
        assert_eq!(none.aggregate, None);
    }

    #[test]
    fn figures_stand_beside_the_state_of_their_pair() {
        let pair = pair(scored(0.5, 1.0));
        let written = serde_json::to_value(&pair).unwrap();
        assert_eq!(written["rouge1"]["fmeasure"], 0.5);
        assert_eq!(written["status"], "succeeded");
        assert_eq!(serde_json::from_value::<PairScores>(written).unwrap(), pair);
    }
}
