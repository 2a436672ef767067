use std::time::Duration;

use precis_schemas::{Channel, Job, JobSubject, Lane, Outcome};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing::result;

fn queue(settings: &LocalConfig) -> MemoryQueue {
    let model = Token::new("a model", "default").unwrap();
    MemoryQueue::new(model, settings, JobEvents::default())
}

impl MemoryQueue {
    async fn publish(&self, submission: &Submission) -> Result<JobHandle, Refusal> {
        let accepted = self.publish_as(submission, submission.job.id.as_str()).await?;
        Ok(accepted.handle)
    }
}

fn submission(id: &str, lane: Lane) -> Submission {
    let mut subject: JobSubject = "jobs.v1.default.normal.summarize.public".parse().unwrap();
    subject.lane = lane;
    Submission {
        subject,
        job: Job {
            channel: Channel::Api,
            ..Job::from_json(format!(r#"{{"id":"{id}","text":"x"}}"#).as_bytes()).unwrap()
        },
        trace: TraceContext::continue_or_begin(None, None),
    }
}

fn cancellation() -> Termination {
    Termination {
        outcome: Outcome::Cancelled,
        reason: Refusal::new(ErrorCode::Cancelled, "the client cancelled the job"),
        attempts: 0,
    }
}

#[tokio::test]
async fn lanes_share_by_weight_and_keep_their_order() {
    let queue = queue(&LocalConfig::default());
    let count = Lane::High.weight() as usize * 3;
    for number in 0..count {
        for lane in [Lane::Bulk, Lane::High] {
            let id = format!("{lane}-{number}");
            queue.publish(&submission(&id, lane)).await.unwrap();
        }
    }
    let mut ids = Vec::new();
    let round = (Lane::High.weight() + Lane::Bulk.weight()) as usize;
    for _ in 0..2 * round {
        ids.push(queue.next().await.submission.job.id.to_string());
    }
    let delivered = |lane: &str| -> Vec<String> {
        let of_lane = ids.iter().filter(|id| id.starts_with(lane));
        of_lane.cloned().collect()
    };
    let expected = |lane: Lane| -> Vec<String> {
        let numbers = 0..2 * lane.weight();
        numbers.map(|number| format!("{lane}-{number}")).collect()
    };
    assert_eq!(delivered("bulk"), expected(Lane::Bulk));
    assert_eq!(delivered("high"), expected(Lane::High));
    assert!(ids[0].starts_with("high"));
}

#[tokio::test]
async fn waiting_jobs_are_bounded_and_an_id_is_accepted_once() {
    let queue = queue(&LocalConfig {
        max_jobs: 2,
        ..LocalConfig::default()
    });
    let publish = async |id: &str| queue.publish(&submission(id, Lane::Normal)).await;
    let first = publish("a").await.unwrap();
    assert_eq!(publish("a").await.unwrap(), first);
    publish("b").await.unwrap();
    assert_eq!(publish("c").await.unwrap_err().code, ErrorCode::QueueFull);
    let delivered = queue.next().await;
    publish("c").await.unwrap();
    let depth = queue.depth().await.unwrap();
    let normal = depth.lanes.iter().find(|lane| lane.lane == Lane::Normal).unwrap();
    assert_eq!((delivered.sequence, depth.last_sequence, normal.jobs), (1, 3, 2));
    let own = TenantLane::from(&submission("a", Lane::Normal).subject);
    let own = queue.tenant_depth(&own).await.unwrap().unwrap();
    assert_eq!((own.last_sequence, own.delivered, own.pending), (3, 1, 2));
    assert_eq!(
        queue.queued_job(&first.id, 1).await.unwrap().unwrap().id,
        first.id
    );
    queue.store_result(1, &result("a", 1));
    assert_eq!(queue.queued_job(&first.id, 1).await.unwrap(), None);
    assert_eq!(publish("a").await.unwrap(), first);
}

#[tokio::test]
async fn a_cancelled_job_leaves_the_queue_and_its_id_can_be_submitted_again() {
    let queue = queue(&LocalConfig::default());
    let publish = async |id: &str| queue.publish(&submission(id, Lane::Normal)).await.unwrap();
    let (waits, runs) = (publish("a").await, publish("b").await);
    let outcome = queue.terminate(&waits, &cancellation()).await.unwrap();
    let Some(TerminationOutcome::Terminated(record)) = outcome else {
        panic!("the job was not terminated");
    };
    assert_eq!((record.outcome, record.job_sequence), (Outcome::Cancelled, 1));
    let again = queue.terminate(&waits, &cancellation()).await.unwrap();
    assert_eq!(again, Some(TerminationOutcome::AlreadyFinished(record)));

    // The other job is delivered, and terminating it tells its worker.
    let delivered = queue.next().await;
    assert_eq!(delivered.sequence, 2);
    let outcome = queue.terminate(&runs, &cancellation()).await.unwrap();
    assert!(matches!(outcome, Some(TerminationOutcome::Terminated(_))));
    assert!(delivered.cancelled.is_cancelled());
    // The worker's own result comes too late.
    queue.store_result(2, &result("b", 2));
    let stored = queue.result(&runs.id, ReadConsistency::Any).await.unwrap();
    assert_eq!(stored.unwrap().outcome, Outcome::Cancelled);

    let second = publish("b").await;
    assert_eq!(second.sequence, Some(3));
    queue.store_result(3, &result("b", 3));
    let stored = queue.result(&second.id, ReadConsistency::Any).await.unwrap();
    let stored = stored.unwrap();
    assert_eq!((stored.outcome, stored.job_sequence), (Outcome::Succeeded, 3));
    let first = queue.terminate(&runs, &cancellation()).await.unwrap();
    assert!(matches!(first, Some(TerminationOutcome::AlreadyFinished(_))));
}

#[tokio::test(start_paused = true)]
async fn results_expire_and_are_kept_without_their_texts() {
    let queue = queue(&LocalConfig {
        max_results: 2,
        result_ttl_seconds: 60,
        ..LocalConfig::default()
    });
    let read = async |id: &str| {
        let id = id.parse().unwrap();
        queue.result(&id, ReadConsistency::Any).await.unwrap()
    };
    for (id, sequence) in [("a", 1), ("b", 2), ("c", 3)] {
        queue.publish(&submission(id, Lane::Normal)).await.unwrap();
        queue.store_result(sequence, &result(id, sequence));
    }
    assert_eq!(read("a").await, None);
    let kept = read("b").await.unwrap();
    assert_eq!((kept.summary.is_some(), kept.text.as_str()), (true, ""));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(read("c").await, None);
}

#[tokio::test(start_paused = true)]
async fn idle_waits_for_the_last_job() {
    let queue = queue(&LocalConfig::default());
    queue.idle().await;
    let first = queue.publish(&submission("a", Lane::Normal)).await.unwrap();
    queue.publish(&submission("b", Lane::Normal)).await.unwrap();
    let is_idle = CancellationToken::new();
    let (waiting, idle) = (queue.clone(), is_idle.clone());
    tokio::spawn(async move {
        waiting.idle().await;
        idle.cancel();
    });
    queue.store_result(2, &result("b", 2));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!is_idle.is_cancelled());
    queue.terminate(&first, &cancellation()).await.unwrap();
    is_idle.cancelled().await;
}
