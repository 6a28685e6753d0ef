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
    step.rows.iter().map(|row| row.position).collect()
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
    assert_eq!(steps.each_ref().map(|step| step.rows.len()), [8, 8, 3]);
    assert_eq!(steps.iter().flat_map(positions).collect::<Vec<_>>(), (0..19).collect::<Vec<_>>());
    let with_logits = |step: &Step| step.rows.iter().filter(|row| row.logits).count();
    assert_eq!(steps.each_ref().map(with_logits), [0, 0, 1]);
    assert_eq!(steps[2].outputs, [Output::Sample(id)]);
}

#[test]
fn a_sampled_token_is_the_only_row_of_the_next_step() {
    let mut scheduler = scheduler(1);
    let id = scheduler.submit(prompt_of(3)).unwrap();
    run_until_decoding(&mut scheduler, id);
    let step = scheduler.next_step().unwrap();
    assert_eq!(step.rows, [Row { token: 99, slot: 0, position: 3, logits: true }]);
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
        assert_eq!(step.rows.len(), ROWS, "the prompt fills what the running sequence leaves");
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
    assert_eq!(step.rows, [Row { token: 4, slot: 0, position: 4, logits: true }]);
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
    assert!(step.rows.iter().all(|row| row.logits));
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
