//! Whatever runs beside a request, it has the tokens and probabilities that it has alone.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::handle::Status;
use super::*;
use crate::checkpoint::Checkpoint;
use crate::generation::{Client, Finish, GenerationRequest, Piece, Prompt, Report, Token};
use crate::kernels::{BLOCK, CacheType, Isa};
use crate::kv::{Store, Usage};
use crate::metrics::Metrics;
use crate::model::{Inference, InferenceOptions, LmHeadType, Model};
use crate::pool::Pool;
use crate::sampling::SamplingParameters;
use crate::scheduler::Limits;
use crate::tokenizer::Tokenizer;

const CONTEXT: usize = 512;
/// A context has four pages.
const FEWEST_PAGES: usize = CONTEXT / BLOCK;
const VOCABULARY: u32 = 1_792;

/// A served fixture model.
fn serve(sequences: usize, pages: usize, rows: usize, max_token_gap: Duration) -> Handle {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/nano64/model-i2_s.gguf");
    let checkpoint = Checkpoint::open(&file).unwrap();
    let mut pool = Pool::new(NonZeroUsize::new(2).unwrap()).unwrap();
    let model = Model::load(&checkpoint, LmHeadType::Exact, Isa::best(), &mut pool).unwrap();
    let options =
        InferenceOptions { context: CONTEXT, pages, sequences, cache_type: CacheType::F16, max_rows: rows };
    let inference = Inference::new(model, pool, Isa::best(), options).unwrap();
    let vocab_size = checkpoint.hyperparameters().vocab_size;
    let tokenizer = Arc::new(Tokenizer::from_metadata(checkpoint.metadata(), vocab_size).unwrap());
    let limits = Limits { sequences, queue: 1_000, rows };
    let options = Options { limits, max_token_gap, timeout: None };
    Handle::start(inference, Store::new(pages, BLOCK), tokenizer, Arc::new(Metrics::new()), &options).unwrap()
}

/// A request that is the same whenever it is made of the same numbers.
#[expect(clippy::struct_excessive_bools, reason = "all that may make a difference")]
#[derive(Clone, Debug)]
struct Asked {
    /// How much of it begins like all others, and how much is its own.
    common: usize,
    own: usize,
    seed: u64,
    tokens: usize,
    greedy: bool,
    penalized: bool,
    echo: bool,
    cached: bool,
    client: usize,
    /// Nobody waits for its answer.
    abandoned: bool,
}

impl Asked {
    fn request(&self) -> GenerationRequest {
        let token = |i: u64| (i.wrapping_mul(2_654_435_761) % u64::from(VOCABULARY)) as u32;
        let common = (0..self.common as u64).map(token);
        let own = (0..self.own as u64).map(|i| token(i + 1_000 * (self.seed % 7 + 1)));
        GenerationRequest {
            prompt: Prompt::new(common.chain(own).collect(), CONTEXT).unwrap(),
            max_tokens: self.tokens.min(CONTEXT - self.common - self.own),
            sampling: SamplingParameters {
                temperature: if self.greedy { 0.0 } else { 0.9 },
                repeat_penalty: if self.penalized { 1.3 } else { 1.0 },
                repeat_last_n: 64,
                seed: self.seed,
                ..SamplingParameters::default()
            },
            stop: Vec::new(),
            report: Report { logprobs: self.seed.is_multiple_of(2).then_some(3), prompt: self.echo },
            cache_prompt: self.cached,
            client: Client::Key(self.client),
        }
    }

    fn alone(&self, handle: &Handle) -> (Vec<Token>, Finish) {
        let request = GenerationRequest { cache_prompt: false, ..self.request() };
        answer(handle.submit(request).unwrap().events)
    }
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let lengths = (prop::sample::select(vec![0, 5, 127, 128, 200, 300]), 1..60_usize, 1..24_usize);
    let kinds =
        (any::<u64>(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.8));
    (lengths, kinds, 0..3_usize, prop::bool::weighted(0.2)).prop_map(
        |((common, own, tokens), (seed, greedy, penalized, echo, cached), client, abandoned)| Asked {
            common,
            own,
            seed,
            tokens,
            greedy,
            penalized,
            echo,
            cached,
            client,
            abandoned,
        },
    )
}

fn answer(mut events: Events) -> (Vec<Token>, Finish) {
    let mut tokens = Vec::new();
    loop {
        match events.blocking_recv().unwrap() {
            Event::Prompt(token) => tokens.push(token),
            Event::Piece(piece) => tokens.extend(piece.tokens),
            Event::Finish(finish) => return (tokens, finish),
            Event::Failed(failure) => panic!("{failure}"),
        }
    }
}

fn busy(status: &Status) -> usize {
    status.slots.iter().filter(|slot| slot.sequence.is_some()).count()
}

fn wait_until_idle(handle: &Handle) -> Usage {
    wait_until(handle, |status| status.waiting == 0 && busy(status) == 0).pages
}

fn wait_until(handle: &Handle, condition: impl Fn(&Status) -> bool) -> Status {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let status = handle.status();
        if condition(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{status:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// In any company, from pages of others or its own, forked, suspended, beside neighbours that leave.
    #[test]
    fn a_request_has_the_tokens_that_it_has_alone(
        asked in prop::collection::vec(any_asked(), 1..14),
        sequences in 1..9_usize,
        pages in FEWEST_PAGES..3 * FEWEST_PAGES,
        rows in prop::sample::select(vec![9, 16, 64]),
        gap in prop::sample::select(vec![0, 2, 1_000]),
    ) {
        let reference = serve(1, FEWEST_PAGES, 64, Duration::from_secs(1));
        let handle = serve(sequences, pages, rows, Duration::from_millis(gap));
        let submitted: Vec<_> = asked.iter().map(|asked| handle.submit(asked.request()).unwrap().events).collect();
        for (asked, mut events) in asked.iter().zip(submitted) {
            if asked.abandoned {
                events.blocking_recv();
                continue;
            }
            let (tokens, finish) = answer(events);
            let (expected, expected_finish) = asked.alone(&reference);
            prop_assert_eq!(tokens, expected, "{:?}", asked);
            prop_assert_eq!(finish.reason, expected_finish.reason);
        }
        prop_assert_eq!(wait_until_idle(&handle).used, 0, "all pages come back");
    }
}

#[test]
fn abandoned_neighbours_change_nothing() {
    let steady = Asked {
        common: 5,
        own: 7,
        seed: 2,
        tokens: CONTEXT - 12,
        greedy: false,
        penalized: true,
        echo: false,
        cached: true,
        client: 0,
        abandoned: false,
    };
    let handle = serve(4, 4 * FEWEST_PAGES, 64, Duration::from_millis(50));
    let (expected, _) = steady.alone(&handle);
    let mut paces = Vec::new();
    // What else this machine does may slow down the one half of an answer or the other, but not each time the second.
    for _ in 0..5 {
        let mut pieces = Pieces { events: handle.submit(steady.request()).unwrap().events, read: Vec::new() };
        while pieces.read.len() < 100 {
            assert!(pieces.wait());
        }
        let before = median_gap(&pieces.read);
        for seed in 0..50 {
            let other = Asked { seed, own: 40, client: 1 + seed as usize % 3, ..steady.clone() };
            let mut events = handle.submit(other.request()).unwrap().events;
            if seed.is_multiple_of(2) {
                events.blocking_recv();
            }
        }
        wait_until(&handle, |status| status.waiting == 0 && busy(status) <= 1);
        pieces.take();
        let left = pieces.read.len();
        while pieces.wait() {}
        let after = median_gap(&pieces.read[left..]);
        let tokens: Vec<Token> = pieces.read.into_iter().flat_map(|piece| piece.tokens).collect();
        assert!(tokens == expected);
        assert_eq!(wait_until_idle(&handle).used, 0);
        if after.is_some() && after <= before.map(|gap| 2 * gap) {
            return;
        }
        paces.push((before, after));
    }
    panic!("the time of a token before and after: {paces:?}");
}

/// An answer as it comes.
struct Pieces {
    events: Events,
    read: Vec<Piece>,
}

impl Pieces {
    /// Reads the next piece, if the answer has one more.
    fn wait(&mut self) -> bool {
        match self.events.blocking_recv() {
            Some(Event::Piece(piece)) => self.read.push(piece),
            Some(Event::Finish(_)) | None => return false,
            Some(other) => panic!("{other:?}"),
        }
        true
    }

    /// Reads what is there already.
    fn take(&mut self) {
        while !self.events.is_empty() && self.wait() {}
    }
}

/// Between two tokens, by the engine's own clock. `None` of too few.
fn median_gap(pieces: &[Piece]) -> Option<Duration> {
    let time = |piece: &Piece| piece.progress.generation_time;
    let mut gaps: Vec<_> =
        pieces.windows(2).map(|pair| time(&pair[1]).saturating_sub(time(&pair[0]))).collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied().filter(|_| gaps.len() >= 50)
}

#[test]
fn who_waits_is_told_when_the_server_stops_and_who_runs_comes_to_an_end() {
    let handle = serve(1, FEWEST_PAGES, 64, Duration::from_secs(1));
    let asked = Asked {
        common: 5,
        own: 7,
        seed: 3,
        tokens: 400,
        greedy: true,
        penalized: true,
        echo: false,
        cached: true,
        client: 0,
        abandoned: false,
    };
    let mut running = handle.submit(asked.request()).unwrap().events;
    running.blocking_recv().unwrap();
    let mut waiting = handle.submit(asked.request()).unwrap().events;
    handle.drain();
    assert!(matches!(waiting.blocking_recv(), Some(Event::Failed(Failure::Stopping))));
    let refused = handle.submit(asked.request()).map(|_| ()).unwrap_err();
    assert_eq!(refused, SubmitError::Draining);
    assert!(answer(running).0.len() >= 399);

    let handle = serve(1, FEWEST_PAGES, 64, Duration::from_secs(1));
    let mut cut = handle.submit(asked.request()).unwrap().events;
    cut.blocking_recv().unwrap();
    handle.stop();
    let last = std::iter::from_fn(|| cut.blocking_recv()).last();
    assert!(matches!(last, Some(Event::Failed(Failure::Stopping))), "{last:?}");
}

#[test]
fn a_request_may_take_only_so_long() {
    // A simulated token takes ten times as long.
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/nano64/model-i2_s.gguf");
    let checkpoint = Checkpoint::open(&file).unwrap();
    let vocab_size = checkpoint.hyperparameters().vocab_size;
    let tokenizer = Arc::new(Tokenizer::from_metadata(checkpoint.metadata(), vocab_size).unwrap());
    let simulation = Simulation::new(10.0, &tokenizer, vocab_size).unwrap();
    let timeout = Some(Duration::from_millis(10));
    let limits = Limits { sequences: 1, queue: 8, rows: 8 };
    let options = Options { limits, max_token_gap: Duration::from_secs(1), timeout };
    let metrics = Arc::new(Metrics::new());
    let handle = Handle::start(simulation, Store::new(4, BLOCK), tokenizer, metrics, &options).unwrap();
    let asked = Asked {
        common: 0,
        own: 7,
        seed: 3,
        tokens: 400,
        greedy: true,
        penalized: false,
        echo: false,
        cached: true,
        client: 0,
        abandoned: false,
    };
    for mut events in [(); 2].map(|()| handle.submit(asked.request()).unwrap().events) {
        let last = std::iter::from_fn(|| events.blocking_recv()).last();
        assert!(matches!(last, Some(Event::Failed(Failure::Timeout(_)))), "{last:?}");
    }
}
