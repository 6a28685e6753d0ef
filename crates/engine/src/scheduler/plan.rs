//! Which sequences run, and the budget of a step.
//!
//! Those that generate come first, each with its one token, so that a long prompt never stops a running answer. What may be computed of
//! prompts beside them goes to two: half to the one that came first, so that it always gets on, and half to the one that has least left,
//! so that it need not wait for the long ones. The second is another client's if there is one, so that nobody gets both halves while
//! others wait.

use super::sequence::Sequence;
use super::{Scheduler, Step};
use crate::generation::Client;

impl Scheduler {
    /// Moves sequences from the queue to free slots, as far as there are pages for them.
    pub(super) fn admit(&mut self) {
        while let Some(next) = self.queue.next(|client| self.running(client)) {
            let (id, client) = (next.id(), next.client());
            let running = self.slots.iter().flatten();
            let promised: usize = running.map(|sequence| sequence.missing_pages(&self.store)).sum();
            let needed = promised + next.missing_pages(&self.store);
            let slot = self.slots.iter().position(Option::is_none);
            let alone = self.slots.iter().all(Option::is_none);
            match slot.filter(|_| alone || needed <= self.store.available()) {
                Some(slot) => self.slots[slot] = self.queue.take(id),
                None if self.running(client) == 0 && self.make_way(needed) => {}
                None => return,
            }
        }
    }

    /// Suspends sequences of clients that have several until there is a slot, and so many pages of those that run together. False,
    /// and nothing is suspended, when that cannot be had.
    fn make_way(&mut self, mut needed: usize) -> bool {
        let mut available = self.store.available();
        let mut leaving = Vec::new();
        while let Some(slot) = self.above_its_share(&leaving) {
            if let Some(sequence) = &self.slots[slot] {
                needed = needed.saturating_sub(sequence.missing_pages(&self.store));
                available += sequence.own_pages(&self.store);
            }
            leaving.push(slot);
            if needed <= available {
                for slot in leaving {
                    self.suspend(slot);
                }
                return true;
            }
        }
        false
    }

    /// The last sequence of the client that has most, if it has several, without those that leave.
    fn above_its_share(&self, leaving: &[usize]) -> Option<usize> {
        let staying = || {
            let running = self.slots.iter().enumerate().filter(|(slot, _)| !leaving.contains(slot));
            running.filter_map(|(slot, sequence)| Some((slot, sequence.as_ref()?)))
        };
        let of = |client| staying().filter(|(_, sequence)| sequence.client() == client).count();
        let most = staying().map(|(_, sequence)| of(sequence.client())).max().filter(|&most| most >= 2)?;
        let several = staying().filter(|(_, sequence)| of(sequence.client()) == most);
        several.max_by_key(|(_, sequence)| sequence.id()).map(|(slot, _)| slot)
    }

    fn running(&self, client: Client) -> usize {
        self.slots.iter().flatten().filter(|sequence| sequence.client() == client).count()
    }

    pub(super) fn plan(&mut self, beside: usize) -> Step {
        let mut step = Step::default();
        let mut rows = 0;
        self.slots.iter_mut().flatten().for_each(|sequence| sequence.attach(&mut self.store));
        for slot in self.in_order(Sequence::is_generating) {
            rows += self.push_token(slot, &mut step);
        }
        step.generating = rows;
        let left = self.limits.rows - rows;
        let prompts = self.in_order(|sequence| !sequence.is_generating());
        let sequences = prompts.iter().filter_map(|&slot| self.slots[slot].as_ref());
        let remaining: Vec<(Client, usize)> =
            sequences.map(|sequence| (sequence.client(), sequence.remaining())).collect();
        let budget = if rows == 0 { left } else { left.min(beside) };
        for (slot, share) in prompts.into_iter().zip(shares(&remaining, budget)) {
            if let (Some(sequence), 1..) = (&mut self.slots[slot], share) {
                sequence.push_chunk(slot, share, &mut self.store, &mut step);
            }
        }
        step
    }

    /// Adds the token of a sequence that generates. When there is no page for it, those that came last make room, in the end itself.
    fn push_token(&mut self, slot: usize, step: &mut Step) -> usize {
        while let Some(sequence) = &mut self.slots[slot] {
            if sequence.push_chunk(slot, 1, &mut self.store, step) == 1 {
                return 1;
            }
            if let Some(last) = self.youngest() {
                self.suspend(last);
            }
        }
        0
    }

    /// The slots of running sequences that are meant, in the order in which they came.
    fn in_order(&self, which: impl Fn(&Sequence) -> bool) -> Vec<usize> {
        let running = self.slots.iter().enumerate();
        let meant = running.filter_map(|(slot, sequence)| {
            Some((sequence.as_ref().filter(|sequence| which(sequence))?.id(), slot))
        });
        let mut meant: Vec<_> = meant.collect();
        meant.sort_unstable();
        meant.into_iter().map(|(_, slot)| slot).collect()
    }
}

/// How many of `budget` tokens each prompt gets: whose it is, and how many are left of it, in the order in which they came.
fn shares(prompts: &[(Client, usize)], budget: usize) -> Vec<usize> {
    let remaining = |index: usize| prompts[index].1;
    let mut shares = vec![0; prompts.len()];
    let mut left = budget;
    let mut give = |index: usize, most: usize| {
        let more = (remaining(index) - shares[index]).min(most).min(left);
        shares[index] += more;
        left -= more;
    };
    let is_first = |index: usize| prompts[index].0 == prompts[0].0;
    let shortest = (0..prompts.len()).min_by_key(|&index| (is_first(index), remaining(index)));
    if let Some(shortest) = shortest {
        give(0, budget.div_ceil(2));
        give(shortest, budget);
        (0..prompts.len()).for_each(|index| give(index, budget));
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_goes_to_the_first_and_the_shortest_and_none_of_it_is_lost() {
        for (remaining, budget, expected) in [
            (&[][..], 8, &[][..]),
            (&[100], 8, &[8]),
            (&[3], 8, &[3]),
            (&[100, 100], 8, &[8, 0]),
            (&[100, 3], 8, &[5, 3]),
            (&[100, 50, 40], 8, &[4, 0, 4]),
            (&[2, 50, 40], 8, &[2, 6, 0]),
            (&[100, 1], 1, &[1, 0]),
            (&[1, 1, 1], 8, &[1, 1, 1]),
            (&[5, 5], 0, &[0, 0]),
        ] {
            let prompts: Vec<_> = remaining.iter().map(|&remaining| (Client::Own, remaining)).collect();
            assert_eq!(shares(&prompts, budget), expected, "{remaining:?}");
        }
    }

    #[test]
    fn nobody_gets_both_halves_while_others_wait() {
        let [one, other] = [Client::Key(0), Client::Key(1)];
        for (prompts, budget, expected) in [
            ([(one, 100), (one, 3), (other, 50)], 8, [4, 0, 4]),
            ([(one, 100), (other, 3), (one, 2)], 8, [5, 3, 0]),
            ([(one, 2), (one, 3), (other, 2)], 8, [2, 3, 2]),
            ([(one, 100), (other, 60), (other, 50)], 8, [4, 0, 4]),
        ] {
            assert_eq!(shares(&prompts, budget), expected, "{prompts:?}");
        }
    }
}
