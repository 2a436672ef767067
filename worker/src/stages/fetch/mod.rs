//! Stage 1: pulls jobs, as many as the engine has room for.
//!
//! Each tenant has a consumer per lane. [`scheduler`] decides which of them the next jobs come from: lanes by weight,
//! tenants of a lane in turn. A worker without room pulls nothing, so that waiting jobs stay available to other
//! workers. A worker with room keeps a pull open for tenants with recent jobs, so that their next job arrives at once.

mod announcements;
mod pull;
mod queue;
mod scheduler;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use precis_runtime::clock::Instant;
use precis_runtime::topology::TopologyError;
use precis_schemas::Lane;
use precis_schemas::worker_consumers::TenantLane;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::announcements::Announcements;
pub(in crate::stages) use self::pull::PULL_WAIT;
use self::pull::{Event, PullContext};
use self::queue::JobQueue;
pub use self::queue::QueueSettings;
use self::scheduler::{PullOrder, Scheduler};
use crate::delivery::Fetched;
use crate::hand_backs::HandBacks;
use crate::lease::Leases;

/// Events that pulls may have ready for the pipeline.
const EVENT_CAPACITY: usize = 1024;

/// Fetches jobs from the lanes of one worker.
pub struct Fetcher {
    scheduler: Scheduler<Fetched>,
    announcements: Announcements,
    pulls: Arc<PullContext>,
    hand_backs: HandBacks,
    events: mpsc::Receiver<Event>,
    stop: CancellationToken,
}

impl Fetcher {
    /// Prepares the lanes, and starts to listen for jobs. `max_lease` bounds the lease of each job.
    ///
    /// # Errors
    /// When the queue is unavailable.
    pub async fn start(
        settings: QueueSettings,
        lanes: &[Lane],
        leases: &Leases,
        max_lease: Duration,
        hand_backs: HandBacks,
        stop: CancellationToken,
    ) -> Result<Self, TopologyError> {
        let queue = JobQueue::open(settings, lanes).await?;
        let announcements = Announcements::default();
        tokio::spawn(announcements.clone().listen(queue.clone(), stop.clone()));
        let (sender, events) = mpsc::channel(EVENT_CAPACITY);
        let pulls = PullContext {
            queue,
            leases: leases.clone(),
            max_lease,
            events: sender,
            stop: stop.clone(),
        };
        Ok(Self {
            scheduler: Scheduler::new(lanes),
            announcements,
            pulls: Arc::new(pulls),
            hand_backs,
            events,
            stop,
        })
    }

    /// Waits for a job, and up to `linger` for more; returns at most `capacity` jobs.
    ///
    /// Returns none when the worker stops. Jobs that were fetched by then are handed back.
    pub async fn next(&mut self, capacity: usize, linger: Duration) -> Option<Vec<Fetched>> {
        let mut fetched: Vec<Fetched> = Vec::with_capacity(capacity);
        let mut linger_until: Option<Instant> = None;
        loop {
            while let Ok(event) = self.events.try_recv() {
                self.apply(event);
            }
            while fetched.len() < capacity
                && let Some(job) = self.scheduler.take()
            {
                fetched.push(job);
            }
            if self.stop.is_cancelled() {
                self.hand_back(fetched).await;
                return None;
            }
            if !fetched.is_empty() {
                let until = *linger_until.get_or_insert_with(|| Instant::now() + linger);
                // A timer would fire only at its next tick, up to a millisecond later.
                if fetched.len() == capacity || linger.is_zero() || Instant::now() >= until {
                    return Some(fetched);
                }
            }
            self.read_announcements();
            self.open_pulls(capacity - fetched.len());
            let lingered = async {
                match linger_until {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // The channel stays open: this fetcher holds a sender.
                event = self.events.recv() => event.into_iter().for_each(|event| self.apply(event)),
                () = self.announcements.changed() => {}
                () = self.stop.cancelled() => {}
                () = lingered => {}
            }
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Message { key, job, pending } => {
                self.scheduler
                    .arrived(key.lane, &key.tenant, *job, pending, Instant::now());
            }
            Event::Ended { key, end } => self.scheduler.ended(key.lane, &key.tenant, end),
        }
    }

    fn read_announcements(&mut self) {
        let (announced, counted) = self.announcements.read();
        for (TenantLane { lane, tenant, .. }, jobs) in announced {
            self.scheduler.announce(lane, &tenant, jobs);
        }
        if let Some(counts) = counted {
            self.scheduler.reconcile(&counts);
            self.pulls
                .queue
                .retain(|key| self.scheduler.knows(key.lane, &key.tenant));
        }
    }

    fn open_pulls(&mut self, room: usize) {
        let planned: Vec<PullOrder> = self.scheduler.plan(room);
        let waiting = self.scheduler.stand_by(room, Instant::now());
        for order in planned.into_iter().chain(waiting) {
            tokio::spawn(self.pulls.clone().run(order));
        }
    }

    /// Hands back `fetched`, and every job that has arrived or that open pulls still deliver.
    pub async fn hand_back(&mut self, mut fetched: Vec<Fetched>) {
        let give_up = Instant::now() + PULL_WAIT * 3;
        // A job that is handed back while a pull is open would come back through it.
        while self.scheduler.has_open_pulls() {
            match tokio::time::timeout_at(give_up, self.events.recv()).await {
                Ok(Some(event)) => self.apply(event),
                Ok(None) | Err(_) => break,
            }
        }
        fetched.extend(self.scheduler.take_all());
        let handed_back = fetched.into_iter().map(|job| self.hand_back_one(job));
        for TenantLane { lane, tenant, .. } in join_all(handed_back).await.into_iter().flatten() {
            self.scheduler.announce(lane, &tenant, 1);
        }
    }

    async fn hand_back_one(&self, job: Fetched) -> Option<TenantLane> {
        let Fetched {
            message,
            delivery,
            lease,
        } = job;
        self.hand_backs.hand_back(&delivery, lease, Duration::ZERO).await;
        TenantLane::of_subject(&message.subject)
    }
}
