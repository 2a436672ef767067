//! Sampling: which results are forwarded.

use precis_schemas::{JobId, JobResult, Outcome};
use sha2::{Digest, Sha256};

/// Whether a result is forwarded: a model worked on it, and its job asks for it or is in the sampled share `rate` (0 to
/// 1).
///
/// Sampling depends only on the job's id, so every sink, monitor and redelivery decides the same.
pub(crate) fn is_chosen(result: &JobResult, rate: f64) -> bool {
    let worked_on = match result.outcome {
        Outcome::Succeeded => result.summary.is_some(),
        Outcome::Failed => result.worker.is_some(),
        Outcome::Cancelled | Outcome::Expired => false,
    };
    worked_on
        && result
            .send_to_arize
            .unwrap_or_else(|| is_sampled(&result.id, rate))
}

fn is_sampled(id: &JobId, rate: f64) -> bool {
    let digest = Sha256::digest(id.as_str().as_bytes());
    let head: [u8; 4] = std::array::from_fn(|index| digest[index]);
    f64::from(u32::from_be_bytes(head)) / f64::from(u32::MAX) < rate || rate >= 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> JobResult {
        serde_json::from_str(include_str!("../../../../schemas/wire/v1/result.succeeded.json")).unwrap()
    }

    #[test]
    fn sampled_shares_are_accurate_and_nested() {
        let ids: Vec<JobId> = (0..4_000).map(|n| format!("job-{n}").parse().unwrap()).collect();
        let chosen = |rate: f64| ids.iter().filter(|id| is_sampled(id, rate)).count();
        assert_eq!((chosen(0.0), chosen(1.0)), (0, 4_000));
        // 1000 expected, with a standard deviation of 27.
        assert!((850..1_150).contains(&chosen(0.25)), "{}", chosen(0.25));
        assert!(ids.iter().all(|id| !is_sampled(id, 0.2) || is_sampled(id, 0.6)));
    }

    #[test]
    fn a_job_overrides_sampling() {
        let mut result = result();
        assert!(is_chosen(&result, 1.0) && !is_chosen(&result, 0.0));
        result.send_to_arize = Some(true);
        assert!(is_chosen(&result, 0.0));
        result.send_to_arize = Some(false);
        assert!(!is_chosen(&result, 1.0));
    }

    #[test]
    fn results_without_model_work_are_not_forwarded() {
        let mut result = result();
        result.outcome = Outcome::Expired;
        assert!(!is_chosen(&result, 1.0));
        result.outcome = Outcome::Failed;
        assert!(is_chosen(&result, 1.0));
        result.worker = None;
        assert!(!is_chosen(&result, 1.0));
    }
}
