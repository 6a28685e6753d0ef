use proptest::prelude::*;

use super::*;

const ROWS: usize = 8;

fn scheduler(slots: usize) -> Scheduler {
    Scheduler::new(Limits { slots, queue: 2, rows: ROWS })
}

/// A prompt of `length` tokens that begins like every other.
fn prompt_of(length: u32) -> Request {
    request(0..length)
}

fn request(prompt: impl IntoIterator<Item = u32>) -> Request {
    let prompt = Prompt::new(prompt.into_iter().collect(), usize::MAX).unwrap();
    Request { prompt, reuse_prefix: true, prompt_logits: false }
}

fn sequences(step: &Step) -> Vec<SequenceId> {
    let sampled = step.outputs.iter().filter_map(|output| match output {
        Output::Sample(id) => Some(*id),
        Output::Prompt { .. } => None,
    });
    sampled.collect()
}

/// Runs a step in which every sequence that can goes on with token 99.
fn run_step(scheduler: &mut Scheduler) -> Step {
    let step = scheduler.next_step().unwrap();
    let sampled: Vec<_> = sequences(&step).into_iter().map(|id| (id, Sampled::Next(99))).collect();
    scheduler.finish_step(&step, &sampled);
    step
}

fn run_until_decoding(scheduler: &mut Scheduler, id: SequenceId) {
    while !sequences(&run_step(scheduler)).contains(&id) {}
}

fn end(scheduler: &mut Scheduler, id: SequenceId) {
    let step = scheduler.next_step().unwrap();
    scheduler.finish_step(&step, &[(id, Sampled::End)]);
}

fn positions(step: &Step) -> Vec<usize> {
    step.chunks.iter().flat_map(|chunk| chunk.start..chunk.start + chunk.tokens.len()).collect()
}

/// What is computed of a single sequence: where it begins, its tokens, and after which of them logits are wanted.
fn only_chunk(step: &Step) -> (usize, &[u32], Wanted) {
    let [chunk] = &step.chunks[..] else { panic!("not one chunk: {step:?}") };
    (chunk.start, &chunk.tokens, chunk.logits)
}

#[test]
fn without_requests_there_is_nothing_to_do() {
    assert_eq!(scheduler(1).next_step(), None);
}

#[test]
fn a_long_prompt_is_computed_in_steps_and_only_its_last_token_needs_logits() {
    let mut scheduler = scheduler(1);
    let id = scheduler.submit(prompt_of(19)).unwrap();
    let steps = [run_step(&mut scheduler), run_step(&mut scheduler), run_step(&mut scheduler)];
    assert_eq!(steps.each_ref().map(|step| positions(step).len()), [8, 8, 3]);
    assert_eq!(steps.iter().flat_map(positions).collect::<Vec<_>>(), (0..19).collect::<Vec<_>>());
    let wanted = steps.each_ref().map(|step| only_chunk(step).2);
    assert_eq!(wanted, [Wanted::None, Wanted::None, Wanted::Last]);
    assert_eq!(steps[2].outputs, [Output::Sample(id)]);
}

#[test]
fn a_sampled_token_is_the_only_row_of_the_next_step() {
    let mut scheduler = scheduler(1);
    let id = scheduler.submit(prompt_of(3)).unwrap();
    run_until_decoding(&mut scheduler, id);
    let step = scheduler.next_step().unwrap();
    assert_eq!(only_chunk(&step), (3, &[99][..], Wanted::Last));
}

#[test]
fn a_long_prompt_does_not_starve_a_running_sequence() {
    let mut scheduler = scheduler(2);
    let running = scheduler.submit(prompt_of(4)).unwrap();
    run_until_decoding(&mut scheduler, running);
    scheduler.submit(prompt_of(1_000)).unwrap();
    for _ in 0..8 {
        let step = run_step(&mut scheduler);
        assert_eq!(sequences(&step), [running]);
        assert_eq!(positions(&step).len(), ROWS, "the prompt fills what the running sequence leaves");
    }
}

#[test]
fn sequences_are_admitted_in_the_order_in_which_they_came() {
    let mut scheduler = scheduler(1);
    let ids = [1, 2, 3].map(|length| scheduler.submit(prompt_of(length)).unwrap());
    for id in ids {
        let step = scheduler.next_step().unwrap();
        assert_eq!(sequences(&step), [id]);
        scheduler.finish_step(&step, &[(id, Sampled::End)]);
    }
    assert_eq!(scheduler.next_step(), None);
}

#[test]
fn a_full_queue_refuses_until_a_sequence_has_ended() {
    let mut scheduler = scheduler(1);
    let first = scheduler.submit(prompt_of(1)).unwrap();
    run_step(&mut scheduler);
    scheduler.submit(prompt_of(1)).unwrap();
    scheduler.submit(prompt_of(1)).unwrap();
    assert_eq!(scheduler.submit(prompt_of(1)), Err(QueueFull { waiting: 2 }));
    end(&mut scheduler, first);
    scheduler.submit(prompt_of(1)).unwrap();
}

#[test]
fn a_free_slot_counts_even_before_the_next_step() {
    let mut scheduler = Scheduler::new(Limits { slots: 1, queue: 0, rows: ROWS });
    scheduler.submit(prompt_of(1)).unwrap();
    assert_eq!(scheduler.submit(prompt_of(1)), Err(QueueFull { waiting: 1 }));
}

#[test]
fn a_waiting_sequence_can_be_cancelled() {
    let mut scheduler = scheduler(1);
    let first = scheduler.submit(prompt_of(1)).unwrap();
    let second = scheduler.submit(prompt_of(1)).unwrap();
    scheduler.cancel(second);
    end(&mut scheduler, first);
    assert_eq!(scheduler.next_step(), None);
}

#[test]
fn cancelling_in_the_middle_of_a_prompt_frees_the_slot_and_keeps_what_was_computed() {
    let mut scheduler = scheduler(1);
    let id = scheduler.submit(prompt_of(100)).unwrap();
    run_step(&mut scheduler);
    scheduler.cancel(id);
    assert_eq!(scheduler.next_step(), None);
    assert_eq!(scheduler.slots().next(), Some(SlotStatus { sequence: None, stored: ROWS }));
    scheduler.submit(prompt_of(10)).unwrap();
    assert_eq!(positions(&scheduler.next_step().unwrap()), [8, 9]);
}

#[test]
fn the_next_turn_of_a_conversation_computes_only_what_is_new() {
    let mut scheduler = scheduler(1);
    let id = scheduler.submit(request([1, 2, 3])).unwrap();
    run_until_decoding(&mut scheduler, id);
    end(&mut scheduler, id);
    let id = scheduler.submit(request([1, 2, 3, 99, 4])).unwrap();
    let step = scheduler.next_step().unwrap();
    assert_eq!(step.admitted, [Admitted { sequence: id, slot: 0, reused: 4 }]);
    assert_eq!(only_chunk(&step), (4, &[4][..], Wanted::Last));
}

#[test]
fn the_last_token_of_a_repeated_prompt_is_computed_again() {
    let mut scheduler = scheduler(1);
    for reused in [0, 2, 2] {
        let id = scheduler.submit(request([1, 2, 3])).unwrap();
        let step = scheduler.next_step().unwrap();
        assert_eq!(step.admitted[0].reused, reused);
        scheduler.finish_step(&step, &[(id, Sampled::End)]);
    }
}

#[test]
fn nothing_is_reused_when_the_request_forbids_it_or_wants_logits_of_the_prompt() {
    let mut scheduler = scheduler(1);
    for request in [
        request([1, 2, 3]),
        Request { reuse_prefix: false, ..request([1, 2, 3]) },
        Request { prompt_logits: true, ..request([1, 2, 3]) },
    ] {
        let id = scheduler.submit(request).unwrap();
        let step = scheduler.next_step().unwrap();
        assert_eq!(positions(&step), [0, 1, 2]);
        scheduler.finish_step(&step, &[(id, Sampled::End)]);
    }
}

#[test]
fn logits_of_the_prompt_are_labelled_with_the_token_that_follows() {
    let mut scheduler = scheduler(1);
    let sequence = scheduler.submit(Request { prompt_logits: true, ..request([5, 6, 7]) }).unwrap();
    let step = scheduler.next_step().unwrap();
    assert_eq!(only_chunk(&step).2, Wanted::All);
    let expected = [
        Output::Prompt { sequence, token: 6 },
        Output::Prompt { sequence, token: 7 },
        Output::Sample(sequence),
    ];
    assert_eq!(step.outputs, expected);
}

#[test]
fn a_sequence_gets_the_slot_that_knows_most_of_its_prompt() {
    let mut scheduler = scheduler(2);
    let ids = [[1, 1, 1], [2, 2, 2]].map(|prompt| scheduler.submit(request(prompt)).unwrap());
    let step = scheduler.next_step().unwrap();
    scheduler.finish_step(&step, &ids.map(|id| (id, Sampled::End)));
    let id = scheduler.submit(request([2, 2, 3])).unwrap();
    let slot = step.admitted.iter().find(|admitted| admitted.sequence == ids[1]).unwrap().slot;
    assert_eq!(scheduler.next_step().unwrap().admitted, [Admitted { sequence: id, slot, reused: 2 }]);
}

#[test]
fn a_failed_step_ends_its_sequences_and_forgets_what_their_slots_hold() {
    let mut scheduler = scheduler(1);
    scheduler.submit(prompt_of(20)).unwrap();
    run_step(&mut scheduler);
    let step = scheduler.next_step().unwrap();
    scheduler.abort_step(&step);
    assert_eq!(scheduler.slots().next(), Some(SlotStatus { sequence: None, stored: 0 }));
    assert_eq!(scheduler.next_step(), None);
}

/// What happens to a scheduler.
#[derive(Clone, Debug)]
enum Action {
    Submit { length: u32, prompt_logits: bool },
    Step { ends: bool },
    Cancel(usize),
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (1..30_u32, any::<bool>()).prop_map(|(length, prompt_logits)| Action::Submit { length, prompt_logits }),
        6 => any::<bool>().prop_map(|ends| Action::Step { ends }),
        1 => (0..8_usize).prop_map(Action::Cancel),
    ]
}

proptest! {
    /// Whatever comes, in whatever order: each sequence is admitted once, and computed from there without a gap until it ends.
    #[test]
    fn no_admission_is_lost(actions in prop::collection::vec(any_action(), 1..80), slots in 1..4_usize) {
        let mut scheduler = Scheduler::new(Limits { slots, queue: 4, rows: ROWS });
        // Of each sequence that has neither ended nor was cancelled: how much of it is computed, once it is admitted.
        let mut alive: Vec<(SequenceId, Option<usize>)> = Vec::new();
        let drain = std::iter::repeat_n(Action::Step { ends: true }, 200);
        for action in actions.into_iter().chain(drain) {
            match action {
                Action::Submit { length, prompt_logits } => {
                    let request = Request { prompt_logits, ..prompt_of(length) };
                    alive.extend(scheduler.submit(request).ok().map(|id| (id, None)));
                }
                Action::Cancel(index) if index < alive.len() => scheduler.cancel(alive.remove(index).0),
                Action::Cancel(_) => {}
                Action::Step { ends } => {
                    let Some(step) = scheduler.next_step() else {
                        prop_assert!(alive.is_empty(), "{alive:?} wait for ever");
                        continue;
                    };
                    prop_assert!((1..=ROWS).contains(&positions(&step).len()));
                    for admitted in &step.admitted {
                        let known = alive.iter_mut().find(|(id, _)| *id == admitted.sequence).unwrap();
                        prop_assert_eq!(known.1.replace(admitted.reused), None);
                    }
                    for chunk in &step.chunks {
                        let computed = alive.iter_mut().find(|(id, _)| *id == chunk.sequence).unwrap();
                        prop_assert_eq!(computed.1, Some(chunk.start));
                        computed.1 = Some(chunk.start + chunk.tokens.len());
                    }
                    let sampled = if ends { Sampled::End } else { Sampled::Next(99) };
                    let ids = sequences(&step);
                    scheduler.finish_step(&step, &ids.iter().map(|&id| (id, sampled)).collect::<Vec<_>>());
                    if ends {
                        alive.retain(|(id, _)| !ids.contains(id));
                    }
                }
            }
        }
        prop_assert!(alive.is_empty());
    }
}
