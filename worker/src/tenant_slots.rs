//! A bounded number of slots that tenants take in turn.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use precis_schemas::Token;
use tokio::sync::oneshot;

/// Slots for work on the CPU outside the engine. Tenants that wait take turns, so one with many jobs holds up no other.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct TenantSlots(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    /// Tenants with waiting jobs, the next one first.
    waiting: VecDeque<(Token, VecDeque<oneshot::Sender<Slot>>)>,
}

/// A slot in use. Dropping it passes it on.
#[derive(Debug)]
pub struct Slot(TenantSlots);

impl TenantSlots {
    /// Creates `slots` slots.
    pub fn new(slots: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: slots,
            waiting: VecDeque::new(),
        })))
    }

    /// Creates a slot for every second core, so that the engine keeps the others.
    pub fn for_half_of_the_cores() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self::new((cores / 2).max(1))
    }

    /// Waits for a slot.
    pub async fn acquire(&self, tenant: &Token) -> Slot {
        let turn = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Slot(self.clone());
            }
            let (sender, turn) = oneshot::channel();
            match state.waiting.iter_mut().find(|(known, _)| known == tenant) {
                Some((_, jobs)) => jobs.push_back(sender),
                None => state.waiting.push_back((tenant.clone(), [sender].into())),
            }
            turn
        };
        // A sender is dropped only with the slots, which this call keeps.
        turn.await.unwrap_or_else(|_| Slot(self.clone()))
    }

    /// Takes the next job in turn out of the queue, or frees a slot if none waits.
    fn next(&self) -> Option<oneshot::Sender<Slot>> {
        let mut state = self.state();
        while let Some((tenant, mut jobs)) = state.waiting.pop_front() {
            let next = jobs.pop_front();
            if !jobs.is_empty() {
                state.waiting.push_back((tenant, jobs));
            }
            if next.is_some() {
                return next;
            }
        }
        state.free += 1;
        None
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(next) = self.0.next() {
            // If that job no longer waits, the returned slot is dropped and passed on to the next one.
            drop(next.send(Slot(self.0.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tenants_take_turns() {
        let slots = TenantSlots::new(1);
        let held = slots.acquire(&Token::sanitized("many")).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut jobs = Vec::new();
        for (tenant, name) in [("many", "a"), ("many", "b"), ("many", "c"), ("few", "x")] {
            let (own, seen) = (slots.clone(), order.clone());
            jobs.push(tokio::spawn(async move {
                let _slot = own.acquire(&Token::sanitized(tenant)).await;
                seen.lock().unwrap().push(name);
            }));
            // Each job waits before the next one is started.
            while slots
                .state()
                .waiting
                .iter()
                .map(|(_, jobs)| jobs.len())
                .sum::<usize>()
                < jobs.len()
            {
                tokio::task::yield_now().await;
            }
        }
        drop(held);
        for job in jobs {
            job.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["a", "x", "b", "c"]);
        assert_eq!(slots.state().free, 1);
    }

    #[tokio::test]
    async fn a_job_that_stops_waiting_passes_its_slot_on() {
        let slots = TenantSlots::new(1);
        let tenant = Token::sanitized("one");
        let held = slots.acquire(&tenant).await;
        let given_up = tokio::spawn({
            let (slots, tenant) = (slots.clone(), tenant.clone());
            async move { slots.acquire(&tenant).await }
        });
        while slots.state().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        given_up.abort();
        assert!(given_up.await.is_err());
        drop(held);
        assert_eq!(slots.state().free, 1);
        slots.acquire(&tenant).await;
    }
}
