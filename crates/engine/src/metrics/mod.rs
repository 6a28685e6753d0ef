//! What the server has done, as numbers: the engine thread and the connections count, whoever scrapes `/metrics` reads.
//!
//! Counting is an addition to an atomic: it takes no lock and no memory, so that a step may do it. What holds only now, such as
//! how many slots are busy, is not counted but asked for when somebody reads ([`Now`]). All names are in one [`table`].

mod cells;
mod pulse;
mod table;
mod text;

use std::time::Duration;

use cells::{Count, Histogram, Largest};
use pulse::Pulse;
pub(crate) use table::{Build, Now};
pub(crate) use text::{CONTENT_TYPE, render};

/// Upper bounds of what a person waits for, in seconds: from a cached prompt of a small model to a long one in a queue.
const WAITS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Upper bounds of the time between two tokens, in seconds: closer together, since readers notice what changes here.
const GAPS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.5, 5.0];

/// How a request that was taken has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The model ended the answer, or a stop string did.
    Stop,
    /// The tokens asked for, or the context, were used up.
    Length,
    Failed,
    Timeout,
    /// The server stops, and it waited or would have run for too long.
    Stopped,
    /// The client left.
    Cancelled,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// As many wait for the engine as may.
    QueueFull,
    /// All connections are busy.
    Places,
    /// As many wait to have their text read as may, or bodies take all the memory that they may.
    Text,
    Unauthorized,
    /// A page or a name that may not ask.
    Forbidden,
    /// Head or body.
    TooLarge,
    /// The prompt does not fit the context.
    TooLong,
    /// The body did not arrive.
    Incomplete,
    /// A path or a model that is not here, or a method that the path does not take.
    NotFound,
    /// Loading, stopping, or ended by an error.
    NotReady,
    /// Anything else that is wrong with it.
    Invalid,
}

impl Outcome {
    const ALL: [Self; 6] =
        [Self::Stop, Self::Length, Self::Failed, Self::Timeout, Self::Stopped, Self::Cancelled];
}

impl Reason {
    const ALL: [Self; 11] = [
        Self::QueueFull,
        Self::Places,
        Self::Text,
        Self::Unauthorized,
        Self::Forbidden,
        Self::TooLarge,
        Self::TooLong,
        Self::Incomplete,
        Self::NotFound,
        Self::NotReady,
        Self::Invalid,
    ];
}

/// All that is counted.
pub(crate) struct Metrics {
    /// From a request's arrival to its first token.
    first_token: Histogram,
    /// Between two tokens of an answer.
    gap: Histogram,
    /// From a request's arrival to its first step.
    queue: Histogram,
    /// From there to the end of its prompt.
    prefill: Histogram,
    /// From arrival to end, whatever the end.
    request: Histogram,
    prompt_tokens: Count,
    cached_tokens: Count,
    steps: Count,
    /// Sequences of all steps.
    busy_slots: Count,
    /// Tokens of the longest request.
    longest: Largest,
    outcomes: [Count; Outcome::ALL.len()],
    refusals: [Count; Reason::ALL.len()],
    pulse: Pulse,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            first_token: Histogram::new(WAITS),
            gap: Histogram::new(GAPS),
            queue: Histogram::new(WAITS),
            prefill: Histogram::new(WAITS),
            request: Histogram::new(WAITS),
            prompt_tokens: Count::default(),
            cached_tokens: Count::default(),
            steps: Count::default(),
            busy_slots: Count::default(),
            longest: Largest::default(),
            outcomes: Default::default(),
            refusals: Default::default(),
            pulse: Pulse::new(),
        }
    }

    /// A request got its slot, so long after it arrived.
    pub(crate) fn queued(&self, time: Duration) {
        self.queue.observe(time);
    }

    /// A prompt is done: `computed` tokens took so long, and `cached` ones were there already.
    pub(crate) fn prefilled(&self, computed: usize, cached: usize, time: Duration) {
        self.prefill.observe(time);
        self.prompt_tokens.add(computed);
        self.cached_tokens.add(cached);
    }

    /// The first token of an answer, so long after the request arrived.
    pub(crate) fn first_token(&self, time: Duration) {
        self.first_token.observe(time);
    }

    /// Another token, so long after the one before it.
    pub(crate) fn gap(&self, time: Duration) {
        self.gap.observe(time);
    }

    /// A request has so many tokens now, those of its prompt and of its answer.
    pub(crate) fn reached(&self, tokens: usize) {
        self.longest.of(tokens);
    }

    /// A request that was taken has ended, so long after it arrived.
    pub(crate) fn ended(&self, outcome: Outcome, time: Duration) {
        self.outcomes[outcome as usize].add(1);
        self.request.observe(time);
    }

    /// A request was not taken.
    pub(crate) fn refused(&self, reason: Reason) {
        self.refusals[reason as usize].add(1);
    }

    /// A step of so many sequences begins.
    pub(crate) fn step_begins(&self, sequences: usize) {
        self.steps.add(1);
        self.busy_slots.add(sequences);
        self.pulse.begin();
    }

    /// It has ended, well or not.
    pub(crate) fn step_ends(&self) {
        self.pulse.end();
    }

    /// For how long the step runs that runs now.
    pub(crate) fn step_runs_for(&self) -> Option<Duration> {
        self.pulse.running()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_and_reason_is_counted_as_itself() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
