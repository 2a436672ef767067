//! The position of a job in its batch.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::JobId;

/// The position of a job in its batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct BatchRef {
    /// The batch.
    pub id: JobId,
    /// Index of the job in the request, from 0.
    #[schemars(range(max = u64::MAX))]
    pub index: u64,
    /// Number of jobs in the batch, if known at submission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = u64::MAX))]
    pub size: Option<u64>,
}

impl BatchRef {
    /// Returns the id of the job at this position: `<batch>-<index>`.
    ///
    /// Returns `None` if the batch's id is too long, which an id by [`JobId::generate`] never is.
    pub fn job_id(&self) -> Option<JobId> {
        format!("{}-{}", self.id, self.index).parse().ok()
    }

    /// Returns the positions of a batch of `size` jobs.
    pub fn all(id: &JobId, size: u64) -> impl Iterator<Item = Self> + use<> {
        let id = id.clone();
        (0..size).map(move |index| Self {
            id: id.clone(),
            index,
            size: Some(size),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_a_batch_follow_from_its_own() {
        let id: JobId = "b1".parse().unwrap();
        let ids: Vec<_> = BatchRef::all(&id, 2).filter_map(|place| place.job_id()).collect();
        assert_eq!(ids, ["b1-0".parse().unwrap(), "b1-1".parse().unwrap()]);
        let long = BatchRef {
            id: JobId::generate(),
            index: u64::MAX,
            size: None,
        };
        assert!(long.job_id().is_some());
    }
}
