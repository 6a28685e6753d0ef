use proptest::prelude::*;

use super::*;
use crate::kernels::PageId;

const LENGTH: usize = 4;
const US: Option<Scope> = Some(Scope(0));

/// A store and what is in its pages, as a model would write it: at each position all tokens up to there.
struct Simulation {
    store: Store,
    contents: Vec<[Vec<u32>; LENGTH]>,
}

impl Simulation {
    fn new(pages: usize) -> Self {
        Self { store: Store::new(pages, LENGTH), contents: vec![Default::default(); pages] }
    }

    /// Pins, and computes what belongs there.
    fn pin(&mut self, tokens: &[u32]) -> Option<Vec<PageId>> {
        let pages = self.store.pin(tokens)?;
        for position in 0..tokens.len() {
            self.contents[pages[position / LENGTH] as usize][position % LENGTH] =
                tokens[..=position].to_vec();
        }
        Some(pages)
    }

    /// Attaches, as far as `tokens` but for the last; returns how many are stored.
    fn attach(&mut self, table: &mut Table, tokens: &[u32]) -> usize {
        if let Some(PageCopy { from, to }) = self.store.attach_all(table, &tokens[..tokens.len() - 1]) {
            self.contents[to as usize] = self.contents[from as usize].clone();
        }
        table.stored()
    }

    /// Computes what is not stored of `tokens`; false when there are no pages for them.
    fn compute(&mut self, table: &mut Table, tokens: &[u32]) -> bool {
        if !self.store.reserve(table, tokens.len()) {
            return false;
        }
        for position in table.stored()..tokens.len() {
            let page = table.pages()[position / LENGTH] as usize;
            self.contents[page][position % LENGTH] = tokens[..=position].to_vec();
        }
        self.store.append(table, &tokens[table.stored()..]);
        true
    }

    fn check(&self, table: &Table, tokens: &[u32]) {
        for position in 0..table.stored() {
            let page = table.pages()[position / LENGTH] as usize;
            assert_eq!(self.contents[page][position % LENGTH], tokens[..=position], "position {position}");
        }
    }

    /// A whole sequence; returns how many tokens were stored before, and its pages.
    fn run(&mut self, scope: Option<Scope>, tokens: &[u32]) -> (usize, Vec<PageId>) {
        let mut table = Table::new(scope);
        let stored = self.attach(&mut table, tokens);
        assert!(self.compute(&mut table, tokens));
        self.check(&table, tokens);
        let pages = table.pages().to_vec();
        self.store.release(&mut table);
        (stored, pages)
    }
}

fn tokens(count: u32) -> Vec<u32> {
    (0..count).collect()
}

#[test]
fn a_sequence_that_begins_alike_uses_the_same_pages_and_a_copy_of_the_last() {
    let mut simulation = Simulation::new(8);
    let (stored, first) = simulation.run(US, &tokens(10));
    assert_eq!((stored, &first[..]), (0, &[0, 1, 2][..]));
    let (stored, second) = simulation.run(US, &tokens(12));
    assert_eq!((stored, &second[..2]), (10, &first[..2]));
    assert_ne!(second[2], first[2]);
}

#[test]
fn a_page_that_differs_in_the_middle_is_used_up_to_there() {
    let mut simulation = Simulation::new(8);
    simulation.run(US, &tokens(12));
    assert_eq!(simulation.run(US, &[0, 1, 2, 3, 4, 5, 60, 70, 80]).0, 6);
    // What was copied from is as it was.
    assert_eq!(simulation.run(US, &tokens(13)).0, 12);
}

#[test]
fn the_last_token_is_always_left_to_compute() {
    let mut simulation = Simulation::new(8);
    simulation.run(US, &tokens(8));
    for _ in 0..3 {
        assert_eq!(simulation.run(US, &tokens(8)).0, 7);
    }
}

#[test]
fn running_sequences_share_what_one_of_them_has_computed() {
    let mut simulation = Simulation::new(8);
    let mut tables = [Table::new(US), Table::new(US), Table::new(US)];
    for (index, table) in tables.iter_mut().enumerate() {
        let stored = simulation.attach(table, &tokens(9));
        assert_eq!(stored, if index == 0 { 0 } else { 8 });
        assert!(simulation.compute(table, &tokens(9)));
    }
    assert_eq!(simulation.store.usage(), Usage { pages: 8, used: 5, shared: 2, kept: 0 });
    for table in &mut tables {
        simulation.check(table, &tokens(9));
        simulation.store.release(table);
    }
    assert_eq!(simulation.store.available(), 8);
}

#[test]
fn what_two_have_computed_at_the_same_time_is_kept_once() {
    let mut simulation = Simulation::new(8);
    let mut tables = [Table::new(US), Table::new(US)];
    for end in [3, 9] {
        for table in &mut tables {
            assert!(simulation.compute(table, &tokens(end)));
        }
    }
    assert_eq!(tables[0].pages()[..2], tables[1].pages()[..2]);
    assert_eq!(simulation.store.usage(), Usage { pages: 8, used: 4, shared: 2, kept: 0 });
    for table in &mut tables {
        simulation.check(table, &tokens(9));
        simulation.store.release(table);
    }
}

#[test]
fn a_scope_knows_nothing_of_another_and_no_scope_knows_nothing() {
    let mut simulation = Simulation::new(16);
    simulation.run(US, &tokens(9));
    assert_eq!(simulation.run(Some(Scope(1)), &tokens(9)).0, 0);
    let before = simulation.store.usage();
    assert_eq!(simulation.run(None, &tokens(9)).0, 0);
    assert_eq!(simulation.store.usage(), before);
    assert_eq!(simulation.run(Some(Scope(1)), &tokens(9)).0, 8);
}

#[test]
fn room_is_made_from_the_end_of_what_was_not_used_for_longest() {
    let mut simulation = Simulation::new(4);
    simulation.run(US, &tokens(8));
    simulation.run(US, &[50, 51, 52, 53, 54]);
    // One page of the first sequence has to go.
    let mut table = Table::new(None);
    assert!(simulation.compute(&mut table, &[7]));
    simulation.store.release(&mut table);
    assert_eq!(simulation.run(US, &[50, 51, 52, 53, 54, 55]).0, 5);
    assert_eq!(simulation.run(US, &tokens(8)).0, 4);
}

#[test]
fn what_is_in_use_is_never_taken() {
    let mut simulation = Simulation::new(3);
    let mut table = Table::new(US);
    assert!(simulation.compute(&mut table, &tokens(8)));
    let mut other = Table::new(US);
    assert!(!simulation.compute(&mut other, &[9; 8]));
    assert_eq!((other.pages().len(), simulation.store.available()), (1, 0));
    simulation.store.release(&mut other);
    assert_eq!(simulation.store.available(), 1);
    simulation.check(&table, &tokens(8));
}

#[test]
fn what_is_pinned_is_for_all_scopes_and_what_follows_it_for_its_own() {
    let mut simulation = Simulation::new(16);
    let pinned = simulation.pin(&tokens(6)).unwrap();
    let ours = simulation.run(US, &tokens(13));
    // A whole page, and a copy of the next one as far as it is pinned.
    assert_eq!((ours.0, ours.1[0]), (6, pinned[0]));
    assert!(!ours.1.contains(&pinned[1]));
    assert_eq!(simulation.run(Some(Scope(1)), &tokens(13)).0, 6);
    assert_eq!(simulation.run(Some(Scope(2)), &tokens(9)).0, 6);
    assert_eq!(simulation.run(US, &tokens(14)).0, 13);
    assert_eq!(simulation.run(Some(Scope(2)), &tokens(14)).0, 9);
    assert_eq!(simulation.run(None, &tokens(9)).0, 0);
}

#[test]
fn what_follows_a_whole_pinned_page_is_not_for_other_scopes() {
    let mut simulation = Simulation::new(16);
    simulation.pin(&tokens(8)).unwrap();
    simulation.run(US, &tokens(13));
    assert_eq!(simulation.run(Some(Scope(1)), &tokens(13)).0, 8);
    // Also when both compute the same at the same time.
    let mut tables = [Table::new(Some(Scope(2))), Table::new(Some(Scope(3)))];
    for table in &mut tables {
        assert_eq!(simulation.attach(table, &tokens(13)), 8);
    }
    for table in &mut tables {
        assert!(simulation.compute(table, &tokens(13)));
        simulation.check(table, &tokens(13));
    }
    assert_ne!(tables[0].pages()[2], tables[1].pages()[2]);
}

#[test]
fn what_is_pinned_stays_whatever_comes_and_does_not_count_as_available() {
    let mut simulation = Simulation::new(4);
    assert_eq!(simulation.pin(&tokens(17)), None);
    assert_eq!(simulation.store.available(), 4);
    let pinned = simulation.pin(&tokens(6)).unwrap();
    assert_eq!((pinned.len(), simulation.store.available()), (2, 2));
    for first in 50..60 {
        simulation.run(US, &[first; 8]);
    }
    let mut other = Table::new(US);
    assert!(!simulation.compute(&mut other, &[9; 12]));
    simulation.store.release(&mut other);
    assert_eq!(simulation.run(US, &tokens(8)).0, 6);
}

#[derive(Clone, Debug)]
enum Action {
    Begin { tokens: Vec<u32>, scope: Option<u64> },
    Grow { which: usize, tokens: Vec<u32> },
    End(usize),
}

/// Few different tokens, so that many sequences begin alike.
fn any_tokens() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..2_u32, 1..14)
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (any_tokens(), prop::option::weighted(0.9, 0..2_u64)).prop_map(|(tokens, scope)| Action::Begin { tokens, scope }),
        4 => (0..6_usize, any_tokens()).prop_map(|(which, tokens)| Action::Grow { which, tokens }),
        2 => (0..6_usize).prop_map(Action::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever sequences do: each finds in its pages what it would have computed itself, and in the end all pages can be had again.
    #[test]
    fn pages_hold_what_their_sequences_would_have_computed(
        actions in prop::collection::vec(any_action(), 1..60),
        pages in 4..24_usize,
        pinned in prop::option::of(any_tokens()),
    ) {
        let mut simulation = Simulation::new(pages);
        let pinned = pinned.and_then(|tokens| Some((simulation.pin(&tokens)?, tokens)));
        let kept = pinned.as_ref().map_or(0, |(pages, _)| pages.len());
        let mut running: Vec<(Table, Vec<u32>)> = Vec::new();
        for action in actions {
            match action {
                Action::Begin { tokens, scope } => {
                    let mut table = Table::new(scope.map(Scope));
                    simulation.attach(&mut table, &tokens);
                    running.push((table, tokens));
                }
                Action::Grow { which, tokens: more } if which < running.len() => {
                    let (table, tokens) = &mut running[which];
                    tokens.extend(more);
                    simulation.attach(table, tokens);
                    simulation.compute(table, tokens);
                }
                Action::End(which) if which < running.len() => {
                    simulation.store.release(&mut running.remove(which).0);
                }
                Action::Grow { .. } | Action::End(_) => {}
            }
            for (table, tokens) in &running {
                simulation.check(table, tokens);
            }
            for (index, (table, _)) in running.iter().enumerate() {
                for (other, _) in running[..index].iter().filter(|(other, _)| other.scope != table.scope) {
                    let is_pinned = |page| pinned.as_ref().is_some_and(|(pages, _)| pages.contains(page));
                    prop_assert!(table.pages().iter().all(|page| is_pinned(page) || !other.pages().contains(page)));
                }
            }
            if let Some((pages, tokens)) = &pinned {
                for position in 0..tokens.len() {
                    let page = pages[position / LENGTH] as usize;
                    prop_assert_eq!(&simulation.contents[page][position % LENGTH], &tokens[..=position]);
                }
            }
            let Usage { pages, used, kept, .. } = simulation.store.usage();
            let is_used = |page: &&PageId| running.iter().any(|(table, _)| table.pages().contains(page));
            let idle = pinned.iter().flat_map(|(pages, _)| pages).filter(|page| !is_used(page)).count();
            prop_assert_eq!(simulation.store.available() + used + idle, pages);
            prop_assert!(used + kept <= pages);
        }
        for (table, _) in &mut running {
            simulation.store.release(table);
        }
        prop_assert_eq!(simulation.store.available(), pages - kept);
        // Every page can be taken, so none is lost in the tree.
        let mut all = Table::new(None);
        prop_assert!(simulation.store.reserve(&mut all, (pages - kept) * LENGTH));
    }
}
