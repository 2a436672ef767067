//! Jobs that were submitted together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::JobId;

/// The place of a job among those that were submitted with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct BatchRef {
    /// The batch.
    pub id: JobId,
    /// Place of the job in the order of the request, from 0.
    pub index: u64,
    /// Jobs of the batch, when that was known as this one was submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl BatchRef {
    /// The id of the job at this place, which follows from the batch: `<batch>-<index>`.
    ///
    /// None when the batch's id is too long for that; an id by [`JobId::generate`] is not.
    pub fn job_id(&self) -> Option<JobId> {
        format!("{}-{}", self.id, self.index).parse().ok()
    }

    /// The places of a batch of `size` jobs.
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
