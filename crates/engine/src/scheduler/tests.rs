use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const ROWS: usize = 8;
/// Positions of a page, and pages that the longest sequence of these tests needs.
const PAGE: usize = 4;
const LONGEST: usize = 300;

fn scheduler_with(sequences: usize, queue: usize, pages: usize) -> Scheduler {
    Scheduler::new(Limits { sequences, queue, rows: ROWS }, Store::new(pages, PAGE))
}

fn scheduler(sequences: usize) -> Scheduler {
    scheduler_with(sequences, 2, LONGEST)
}

/// A prompt of `length` tokens that begins like every other.
fn prompt_of(length: u32) -> Request {
    request(0..length)
}

fn request(prompt: impl IntoIterator<Item = u32>) -> Request {
    let prompt = Prompt::new(prompt.into_iter().collect(), usize::MAX).unwrap();
    Request { prompt, client: Client::Own, scope: Some(Scope::default()), prompt_logits: false }
}

fn by(client: usize, request: Request) -> Request {
    Request { client: Client::Key(client), ..request }
}

fn sequences(step: &Step) -> Vec<SequenceId> {
    let sampled = step.outputs.iter().filter_map(|output| match output {
        Output::Sample(id) => Some(*id),
        Output::Prompt { .. } => None,
    });
    sampled.collect()
}

fn finish(scheduler: &mut Scheduler, step: &Step, sampled: Sampled) {
    let all: Vec<_> = sequences(step).into_iter().map(|id| (id, sampled)).collect();
    scheduler.finish_step(step, &all);
}

/// Runs a step in which every sequence that can goes on with token 99.
fn run_step(scheduler: &mut Scheduler) -> Step {
    let step = scheduler.next_step(ROWS).unwrap();
    finish(scheduler, &step, Sampled::Next(99));
    step
}

fn run_until_decoding(scheduler: &mut Scheduler, id: SequenceId) {
    while !sequences(&run_step(scheduler)).contains(&id) {}
}

fn end(scheduler: &mut Scheduler, id: SequenceId) {
    let step = scheduler.next_step(ROWS).unwrap();
    scheduler.finish_step(&step, &[(id, Sampled::End)]);
}

fn positions(step: &Step) -> Vec<usize> {
    step.chunks.iter().flat_map(|chunk| chunk.start..chunk.start + chunk.tokens.len()).collect()
}

fn rows_of(step: &Step, id: SequenceId) -> usize {
    step.chunks.iter().filter(|chunk| chunk.sequence == id).map(|chunk| chunk.tokens.len()).sum()
}

/// What is computed of a single sequence: where it begins, its tokens, and after which of them logits are wanted.
fn only_chunk(step: &Step) -> (usize, &[u32], Wanted) {
    let [chunk] = &step.chunks[..] else { panic!("not one chunk: {step:?}") };
    (chunk.start, &chunk.tokens, chunk.logits)
}

#[test]
fn without_requests_there_is_nothing_to_do() {
    assert_eq!(scheduler(1).next_step(ROWS), None);
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
    let step = scheduler.next_step(ROWS).unwrap();
    assert_eq!(only_chunk(&step), (3, &[99][..], Wanted::Last));
}

#[test]
fn beside_running_sequences_a_prompt_gets_the_rows_that_it_may_have() {
    let mut scheduler = scheduler(2);
    let running = scheduler.submit(prompt_of(4)).unwrap();
    run_until_decoding(&mut scheduler, running);
    let long = scheduler.submit(request(1_000..1_200)).unwrap();
    for beside in [1, 3, ROWS, 100] {
        let step = scheduler.next_step(beside).unwrap();
        finish(&mut scheduler, &step, Sampled::Next(99));
        assert_eq!(sequences(&step), [running]);
        assert_eq!(rows_of(&step, long), beside.min(ROWS - 1), "beside {beside}");
    }
    end(&mut scheduler, running);
    assert_eq!(rows_of(&scheduler.next_step(1).unwrap(), long), ROWS, "alone");
}

#[test]
fn a_short_prompt_does_not_wait_for_a_long_one_and_the_long_one_gets_on() {
    let mut scheduler = scheduler(3);
    let long = scheduler.submit(request(1_000..1_200)).unwrap();
    run_step(&mut scheduler);
    for round in 0..5 {
        let short = scheduler.submit(request(2_000 + 10 * round..2_003 + 10 * round)).unwrap();
        let step = scheduler.next_step(ROWS).unwrap();
        assert_eq!((rows_of(&step, long), rows_of(&step, short)), (5, 3));
        scheduler.finish_step(&step, &[(short, Sampled::End)]);
    }
}

#[test]
fn sequences_are_admitted_in_the_order_in_which_they_came() {
    let mut scheduler = scheduler(1);
    let ids = [1, 2, 3].map(|length| scheduler.submit(prompt_of(length)).unwrap());
    assert_eq!(ids.map(|id| scheduler.waiting_before(id)), [0, 1, 2]);
    for id in ids {
        let step = scheduler.next_step(ROWS).unwrap();
        assert_eq!(sequences(&step), [id]);
        scheduler.finish_step(&step, &[(id, Sampled::End)]);
    }
    assert_eq!(scheduler.next_step(ROWS), None);
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
    // The slot is free, which counts even before the next step.
    scheduler.submit(prompt_of(1)).unwrap();
    assert_eq!(scheduler.submit(prompt_of(1)), Err(QueueFull { waiting: 3 }));
}

#[test]
fn a_full_queue_has_a_place_for_a_client_that_has_none() {
    let mut scheduler = scheduler_with(1, 4, LONGEST);
    let mut accepted = 0;
    while scheduler.submit(by(0, prompt_of(5))).is_ok() {
        accepted += 1;
    }
    assert_eq!(accepted, 5);
    scheduler.submit(by(1, prompt_of(5))).unwrap();
    // The reserve is used up, and it was for those who have nothing there.
    for client in [1, 2] {
        assert_eq!(scheduler.submit(by(client, prompt_of(5))), Err(QueueFull { waiting: 6 }));
    }
}

#[test]
fn without_a_queue_nobody_waits() {
    let mut scheduler = scheduler_with(1, 0, LONGEST);
    scheduler.submit(by(0, prompt_of(1))).unwrap();
    assert_eq!(scheduler.submit(by(1, prompt_of(1))), Err(QueueFull { waiting: 1 }));
}

#[test]
fn a_client_with_many_requests_delays_only_its_own() {
    let mut scheduler = scheduler_with(2, 50, LONGEST);
    for index in 0..50 {
        scheduler.submit(by(0, request([index, 1, 2]))).unwrap();
    }
    run_step(&mut scheduler);
    let other = scheduler.submit(by(1, request([7, 7, 7]))).unwrap();
    // Not even for the end of one: the last of the hostile ones makes way.
    let step = run_step(&mut scheduler);
    assert!(sequences(&step).contains(&other), "{step:?}");
    assert_eq!(step.chunks.len(), 2);
    // And as long as it comes back, it gets half.
    for _ in 0..5 {
        end(&mut scheduler, other);
        let other = scheduler.submit(by(1, request([8, 8, 8]))).unwrap();
        assert!(sequences(&run_step(&mut scheduler)).contains(&other));
        scheduler.cancel(other);
    }
}

#[test]
fn a_sequence_that_made_way_goes_on_where_it_was() {
    let mut scheduler = scheduler(2);
    let mut hostile = [1, 2].map(|token| scheduler.submit(by(0, request([token, 1, 2, 3, 4]))).unwrap());
    hostile.sort();
    run_until_decoding(&mut scheduler, hostile[1]);
    let other = scheduler.submit(by(1, request([7, 7, 7]))).unwrap();
    run_step(&mut scheduler);
    assert_eq!((scheduler.waiting(), scheduler.waiting_before(hostile[1])), (1, 0));
    end(&mut scheduler, other);
    let step = scheduler.next_step(ROWS).unwrap();
    let resumed = step.chunks.iter().find(|chunk| chunk.sequence == hostile[1]).unwrap();
    // Its five tokens are in the cache; the sixth was sampled before it made way.
    assert_eq!((resumed.start, &resumed.tokens[..]), (5, &[99][..]));
    assert_eq!(step.admitted, [], "it was admitted before");
}

#[test]
fn nobody_makes_way_for_a_sequence_that_would_have_to_wait_all_the_same() {
    // More than half of the pages are those of one sequence, and another client has six small ones.
    let mut scheduler = scheduler_with(8, 50, 60);
    let large = scheduler.submit(by(1, request(1_000..1_100))).unwrap();
    run_until_decoding(&mut scheduler, large);
    let small: Vec<_> = (0..6).map(|index| scheduler.submit(by(0, request([index; 5]))).unwrap()).collect();
    for id in small {
        run_until_decoding(&mut scheduler, id);
    }
    let other = scheduler.submit(by(2, request(2_000..2_120))).unwrap();
    let step = run_step(&mut scheduler);
    assert_eq!((step.chunks.len(), rows_of(&step, other)), (7, 0), "{step:?}");
    // It waits for pages, not for ever.
    scheduler.cancel(large);
    let step = run_step(&mut scheduler);
    assert!(rows_of(&step, other) > 0, "{step:?}");
}

#[test]
fn a_waiting_sequence_can_be_cancelled() {
    let mut scheduler = scheduler(1);
    let first = scheduler.submit(prompt_of(1)).unwrap();
    let second = scheduler.submit(prompt_of(1)).unwrap();
    scheduler.cancel(second);
    end(&mut scheduler, first);
    assert_eq!(scheduler.next_step(ROWS), None);
}

#[test]
fn all_that_were_never_computed_can_be_cancelled() {
    let mut scheduler = scheduler(1);
    let running = scheduler.submit(prompt_of(5)).unwrap();
    run_step(&mut scheduler);
    let waiting = [5, 6].map(|length| scheduler.submit(prompt_of(length)).unwrap());
    assert_eq!(scheduler.cancel_waiting(), waiting);
    assert_eq!((scheduler.waiting(), sequences(&run_step(&mut scheduler))), (0, vec![running]));
}

#[test]
fn cancelling_in_the_middle_of_a_prompt_frees_the_slot_and_keeps_what_was_computed() {
    let mut scheduler = scheduler(1);
    let id = scheduler.submit(prompt_of(100)).unwrap();
    run_step(&mut scheduler);
    scheduler.cancel(id);
    assert_eq!(scheduler.next_step(ROWS), None);
    assert_eq!(scheduler.slots().next(), Some(SlotStatus { sequence: None, stored: 0 }));
    assert_eq!(scheduler.pages(), Usage { pages: LONGEST, used: 0, shared: 0, kept: ROWS / PAGE });
    scheduler.submit(prompt_of(10)).unwrap();
    assert_eq!(positions(&scheduler.next_step(ROWS).unwrap()), [8, 9]);
}

#[test]
fn the_next_turn_of_a_conversation_computes_only_what_is_new() {
    let mut scheduler = scheduler(1);
    let id = scheduler.submit(request([1, 2, 3])).unwrap();
    run_until_decoding(&mut scheduler, id);
    end(&mut scheduler, id);
    let id = scheduler.submit(request([1, 2, 3, 99, 4])).unwrap();
    let step = scheduler.next_step(ROWS).unwrap();
    assert_eq!(step.admitted, [Admitted { sequence: id, slot: 0, reused: 4 }]);
    assert_eq!(only_chunk(&step), (4, &[4][..], Wanted::Last));
}

#[test]
fn any_number_of_sequences_at_once_share_what_an_earlier_one_has_computed() {
    let mut scheduler = scheduler(3);
    let system = scheduler.submit(prompt_of(8)).unwrap();
    run_until_decoding(&mut scheduler, system);
    scheduler.cancel(system);
    let prompts = [50, 60, 70].map(|token| (0..8).chain([token, 1]));
    let ids = prompts.map(|prompt| scheduler.submit(request(prompt)).unwrap());
    let step = run_step(&mut scheduler);
    assert_eq!(step.admitted.iter().map(|admitted| admitted.reused).collect::<Vec<_>>(), [8, 8, 8]);
    assert_eq!(sequences(&step), ids);
    assert_eq!(scheduler.pages(), Usage { pages: LONGEST, used: 5, shared: 2, kept: 0 });
}

#[test]
fn a_prompt_that_somebody_is_computing_is_computed_once() {
    let mut scheduler = scheduler(2);
    let first = scheduler.submit(prompt_of(20)).unwrap();
    let second = scheduler.submit(prompt_of(20)).unwrap();
    let mut computed = 0;
    let mut answered = Vec::new();
    while answered.len() < 2 {
        let step = scheduler.next_step(ROWS).unwrap();
        computed += positions(&step).len();
        answered.extend(sequences(&step));
        finish(&mut scheduler, &step, Sampled::End);
    }
    assert_eq!(answered, [first, second]);
    assert!(computed <= 20 + 1 + PAGE, "{computed} tokens for twice 20");
}

#[test]
fn the_last_token_of_a_repeated_prompt_is_computed_again() {
    let mut scheduler = scheduler(1);
    for reused in [0, 2, 2] {
        let id = scheduler.submit(request([1, 2, 3])).unwrap();
        let step = scheduler.next_step(ROWS).unwrap();
        assert_eq!(step.admitted[0].reused, reused);
        scheduler.finish_step(&step, &[(id, Sampled::End)]);
    }
}

#[test]
fn nothing_is_reused_out_of_scope_or_by_who_wants_logits_of_the_prompt() {
    let mut scheduler = scheduler(1);
    for request in [
        request([1, 2, 3]),
        Request { scope: None, ..request([1, 2, 3]) },
        Request { scope: Some(Scope(1)), ..request([1, 2, 3]) },
        Request { prompt_logits: true, ..request([1, 2, 3]) },
    ] {
        let id = scheduler.submit(request).unwrap();
        let step = scheduler.next_step(ROWS).unwrap();
        assert_eq!(positions(&step), [0, 1, 2]);
        scheduler.finish_step(&step, &[(id, Sampled::End)]);
    }
}

#[test]
fn logits_of_the_prompt_are_labelled_with_the_token_that_follows() {
    let mut scheduler = scheduler(1);
    let sequence = scheduler.submit(Request { prompt_logits: true, ..request([5, 6, 7]) }).unwrap();
    let step = scheduler.next_step(ROWS).unwrap();
    assert_eq!(only_chunk(&step).2, Wanted::All);
    let expected = [
        Output::Prompt { sequence, token: 6 },
        Output::Prompt { sequence, token: 7 },
        Output::Sample(sequence),
    ];
    assert_eq!(step.outputs, expected);
}

#[test]
fn a_failed_step_ends_its_sequences_and_keeps_nothing_of_it() {
    let mut scheduler = scheduler(1);
    scheduler.submit(prompt_of(20)).unwrap();
    run_step(&mut scheduler);
    let step = scheduler.next_step(ROWS).unwrap();
    scheduler.abort_step(&step);
    assert_eq!(scheduler.slots().next(), Some(SlotStatus { sequence: None, stored: 0 }));
    assert_eq!(scheduler.pages(), Usage { pages: LONGEST, used: 0, shared: 0, kept: ROWS / PAGE });
    assert_eq!(scheduler.next_step(ROWS), None);
}

/// What happens to a scheduler.
#[derive(Clone, Debug)]
enum Action {
    Submit { client: usize, tokens: Vec<u32>, kind: u8 },
    Step { beside: usize },
    Cancel(usize),
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (0..3_usize, prop::collection::vec(0..2_u32, 1..16), 0..4_u8)
            .prop_map(|(client, tokens, kind)| Action::Submit { client, tokens, kind }),
        6 => (0..6_usize).prop_map(|beside| Action::Step { beside: beside + 1 }),
        1 => (0..8_usize).prop_map(Action::Cancel),
    ]
}

/// What is known of a sequence from outside.
#[derive(Debug)]
struct Seen {
    tokens: Vec<u32>,
    prompt: usize,
    prompt_logits: bool,
    admitted: bool,
    /// Tokens of the prompt whose probability was told.
    told: usize,
}

/// A token that depends on all before it, as a model's does, so that sequences that begin alike go on alike.
fn next_token(tokens: &[u32]) -> u32 {
    tokens.iter().fold(7_u32, |sum, token| sum.wrapping_mul(31).wrapping_add(*token)) >> 3 & 1
}

/// Whether an answer ends with this token.
fn ends(tokens: &[u32], prompt: usize) -> bool {
    tokens.len() - prompt > 12 || (tokens.len() > 17 && next_token(tokens) == 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Whatever comes, in whatever order, with however few pages: each sequence is admitted once, its tokens are computed from keys and
    /// values of the very tokens before them, none is left out, each token of a prompt that is to be told is told once, and all pages
    /// come back.
    #[test]
    fn every_sequence_sees_its_own_tokens_and_comes_to_its_end(
        actions in prop::collection::vec(any_action(), 1..80),
        slots in 1..5_usize,
        pages in 8..30_usize,
    ) {
        let mut scheduler = scheduler_with(slots, 4, pages);
        // What each page would hold: at each position all tokens up to there.
        let mut contents = vec![vec![Vec::<u32>::new(); PAGE]; pages];
        let mut alive: HashMap<SequenceId, Seen> = HashMap::new();
        let drain = std::iter::repeat_n(Action::Step { beside: 3 }, 600);
        for action in actions.into_iter().chain(drain) {
            match action {
                Action::Submit { client, tokens, kind } => {
                    let prompt_logits = kind == 1;
                    let scope = (kind != 2).then(Scope::default);
                    let request = Request { scope, prompt_logits, ..by(client, request(tokens.clone())) };
                    let seen = Seen { prompt: tokens.len(), tokens, prompt_logits, admitted: false, told: 0 };
                    alive.extend(scheduler.submit(request).ok().map(|id| (id, seen)));
                }
                Action::Cancel(index) => {
                    let mut ids: Vec<_> = alive.keys().copied().collect();
                    ids.sort();
                    if let Some(id) = ids.get(index) {
                        scheduler.cancel(*id);
                        alive.remove(id);
                    }
                }
                Action::Step { beside } => {
                    let Some(step) = scheduler.next_step(beside) else {
                        prop_assert!(alive.is_empty(), "{alive:?} wait for ever");
                        continue;
                    };
                    prop_assert!((1..=ROWS).contains(&positions(&step).len()));
                    for admitted in &step.admitted {
                        let seen = alive.get_mut(&admitted.sequence).unwrap();
                        prop_assert!(!std::mem::replace(&mut seen.admitted, true), "admitted twice");
                    }
                    for copy in &step.copies {
                        contents[copy.to as usize] = contents[copy.from as usize].clone();
                    }
                    for chunk in &step.chunks {
                        let seen = &alive[&chunk.sequence];
                        prop_assert!(seen.admitted);
                        for (position, &token) in (chunk.start..).zip(&chunk.tokens) {
                            prop_assert_eq!(token, seen.tokens[position]);
                            let page = chunk.pages[position / PAGE] as usize;
                            contents[page][position % PAGE] = seen.tokens[..=position].to_vec();
                        }
                        for position in 0..chunk.start + chunk.tokens.len() {
                            let page = chunk.pages[position / PAGE] as usize;
                            prop_assert_eq!(&contents[page][position % PAGE], &seen.tokens[..=position]);
                        }
                    }
                    let mut sampled = Vec::new();
                    for output in &step.outputs {
                        match *output {
                            Output::Prompt { sequence, token } => {
                                let seen = alive.get_mut(&sequence).unwrap();
                                prop_assert!(seen.prompt_logits);
                                seen.told += 1;
                                prop_assert_eq!(token, seen.tokens[seen.told]);
                            }
                            Output::Sample(id) => {
                                let seen = alive.get_mut(&id).unwrap();
                                let chunk = step.chunks.iter().find(|chunk| chunk.sequence == id).unwrap();
                                prop_assert_eq!(chunk.start + chunk.tokens.len(), seen.tokens.len());
                                let next = next_token(&seen.tokens);
                                seen.tokens.push(next);
                                if ends(&seen.tokens, seen.prompt) {
                                    prop_assert_eq!(seen.told, if seen.prompt_logits { seen.prompt - 1 } else { 0 });
                                    alive.remove(&id);
                                    sampled.push((id, Sampled::End));
                                } else {
                                    sampled.push((id, Sampled::Next(next)));
                                }
                            }
                        }
                    }
                    scheduler.finish_step(&step, &sampled);
                }
            }
        }
        prop_assert!(alive.is_empty(), "{alive:?}");
        prop_assert_eq!(scheduler.pages().used, 0);
    }
}
