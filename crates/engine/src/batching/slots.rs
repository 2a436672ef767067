//! Allocation of KV cache slots.
//!
//! A slot holds the keys and values of one generated token in all layers. A beam is a list of slots, and beams with a
//! common prefix share its slots, so reordering beams copies nothing. These are the block tables of PagedAttention
//! (Kwon et al. 2023) with blocks of one token.

/// The free slots of a cache.
#[derive(Debug, Default)]
pub(super) struct Slots {
    free: Vec<u32>,
    count: u32,
    /// Per slot: the last sweep that found it in use.
    seen: Vec<u32>,
    sweep: u32,
}

impl Slots {
    /// Takes a free slot.
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.count += 1;
            self.seen.push(0);
            self.count - 1
        })
    }

    /// Returns the number of slots that the cache must hold.
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    /// Returns the number of slots in use.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.count as usize - self.free.len()
    }

    /// Frees slots.
    pub(super) fn release(&mut self, slots: impl IntoIterator<Item = u32>) {
        for slot in slots {
            debug_assert!(!self.free.contains(&slot), "slot {slot} is freed twice");
            self.free.push(slot);
        }
    }

    /// Frees the slots of `owned` that no beam uses, and keeps the others in it.
    pub(super) fn sweep<'a>(&mut self, owned: &mut Vec<u32>, beams: impl IntoIterator<Item = &'a [u32]>) {
        self.sweep = self.sweep.wrapping_add(1);
        for slot in beams.into_iter().flatten() {
            self.seen[*slot as usize] = self.sweep;
        }
        owned.retain(|slot| {
            let used = self.seen[*slot as usize] == self.sweep;
            if !used {
                self.free.push(*slot);
            }
            used
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_without_a_beam_are_freed() {
        let mut slots = Slots::default();
        let mut owned: Vec<u32> = (0..6).map(|_| slots.take()).collect();
        assert_eq!(
            (owned.as_slice(), slots.in_use()),
            ([0, 1, 2, 3, 4, 5].as_slice(), 6)
        );
        slots.sweep(&mut owned, [[0, 2].as_slice(), &[0, 5]]);
        assert_eq!((owned.as_slice(), slots.in_use()), ([0, 2, 5].as_slice(), 3));
        let again: Vec<u32> = (0..3).map(|_| slots.take()).collect();
        assert!(again.iter().all(|slot| [1, 3, 4].contains(slot)));
        assert_eq!(slots.take(), 6);
        slots.release(owned);
        assert_eq!((slots.count(), slots.in_use()), (7, 4));
    }
}
