//! Which places of the self-attention cache are taken.
//!
//! One slot holds the keys and values of one generated token in all layers. A beam is a list of slots: beams that go on
//! from the same one share its slots, so that nothing is ever copied when beams are reordered (the block tables of
//! PagedAttention, Kwon et al. 2023, with blocks of one token).

/// The free slots of one cache.
#[derive(Debug, Default)]
pub(super) struct Slots {
    free: Vec<u32>,
    count: u32,
    /// By slot: the last sweep that found it in use.
    seen: Vec<u32>,
    sweep: u32,
}

impl Slots {
    /// A free one.
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.count += 1;
            self.seen.push(0);
            self.count - 1
        })
    }

    /// Slots that there must be room for.
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    /// Slots in use.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.count as usize - self.free.len()
    }

    /// Gives slots back.
    pub(super) fn release(&mut self, slots: impl IntoIterator<Item = u32>) {
        for slot in slots {
            debug_assert!(!self.free.contains(&slot), "slot {slot} is given back twice");
            self.free.push(slot);
        }
    }

    /// Gives back those of `owned` that none of `beams` uses, and leaves the others in it.
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
    fn what_no_beam_uses_is_free_again() {
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
