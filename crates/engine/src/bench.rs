//! Measures how fast a model runs, beside what the machine could do at most.
//!
//! A machine's speed drifts, and so does the place of its pages. So the limits are measured over the engine's own weights,
//! just before and just after each piece of work, and each run is held against those two; medians are reported.

mod agreement;

use std::time::Instant;

use serde::Serialize;

use crate::kernels::{Demand, Isa, limits};
use crate::model::{ForwardError, Inference, Profile, Row, Stage};
pub use agreement::{Agreement, agreement, positions as agreement_positions};

/// Rounds of the multiplication limit: a few tens of milliseconds.
const MULTIPLY_ROUNDS: usize = 4_000_000;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens to generate.
    pub generate_tokens: usize,
    /// How many tokens are in the context when generating starts.
    pub depths: Vec<usize>,
    /// How often each is measured.
    pub repetitions: usize,
}

/// The medians of some runs of the same work.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Speed {
    /// Tokens in the context before.
    pub depth: usize,
    /// Tokens of one run.
    pub tokens: usize,
    /// Median, and the range over the repetitions.
    pub tokens_per_second: f64,
    /// Slowest run.
    pub slowest: f64,
    /// Fastest run.
    pub fastest: f64,
    /// What the machine could do, measured around the runs: bytes read or multiply-adds, a second.
    pub limit_per_second: f64,
    /// Prefill: multiply-adds with ternary weights. Decode: times that the model file could be read.
    pub ratio: f64,
    /// Decode: the share of the read bandwidth that is used by the bytes that are really read.
    pub bandwidth_share: Option<f64>,
}

/// Share of the time of a stage of the forward pass.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StageTime {
    /// Its name.
    pub stage: &'static str,
    /// Microseconds a token.
    pub microseconds: f64,
}

/// All results.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// One prefill.
    pub prefill: Speed,
    /// Decoding at each depth.
    pub decode: Vec<Speed>,
    /// Where a token's time goes in prefill.
    pub prefill_profile: Vec<StageTime>,
    /// Where a token's time goes when decoding at the first depth.
    pub decode_profile: Vec<StageTime>,
    /// Weights that are multiplied for every token.
    pub ternary_weights: u64,
    /// Bytes of weights that decoding a token reads.
    pub bytes_per_token: u64,
}

/// Runs a plan. `file_bytes` is the size of the model file; the context must hold prompt and generated tokens.
pub fn run(
    inference: &mut Inference,
    isa: Isa,
    plan: &Plan,
    file_bytes: u64,
) -> Result<Report, ForwardError> {
    let mut bench = Bench { inference, isa, plan };
    let ternary_weights = bench.inference.model().ternary_weights();
    let bytes_per_token = bench.inference.model().buffers().iter().map(|buffer| buffer.len() as u64).sum();

    let work = ternary_weights as f64;
    let prompt = plan.prompt_tokens;
    let (prefill, profile) =
        bench.measure(0, prompt, Bench::multiply, |bench| bench.prefill(0..prompt), |speed| speed * work)?;
    let prefill_profile = stages(&profile, prompt * plan.repetitions);

    let mut decode = Vec::new();
    let mut decode_profile = Vec::new();
    for &depth in &plan.depths {
        bench.prefill(0..depth)?;
        let tokens = plan.generate_tokens;
        let kv_bytes = bench.inference.kv_bytes(depth + tokens / 2);
        let (mut speed, profile) = bench.measure(
            depth,
            tokens,
            Bench::read,
            |bench| bench.decode(depth),
            |speed| speed * file_bytes as f64,
        )?;
        let read = speed.tokens_per_second * (bytes_per_token + kv_bytes) as f64;
        speed.bandwidth_share = Some(speed.ratio * read / (speed.tokens_per_second * file_bytes as f64));
        decode.push(speed);
        if decode_profile.is_empty() {
            decode_profile = stages(&profile, tokens * plan.repetitions);
        }
    }
    Ok(Report { prefill, decode, prefill_profile, decode_profile, ternary_weights, bytes_per_token })
}

struct Bench<'a> {
    inference: &'a mut Inference,
    isa: Isa,
    plan: &'a Plan,
}

impl Bench<'_> {
    /// Limit, work, limit, work, …, limit; `effort` turns tokens a second into the unit of the limit.
    fn measure(
        &mut self,
        depth: usize,
        tokens: usize,
        limit: impl Fn(&mut Self) -> f64,
        mut work: impl FnMut(&mut Self) -> Result<(), ForwardError>,
        effort: impl Fn(f64) -> f64,
    ) -> Result<(Speed, Profile), ForwardError> {
        limit(self);
        work(self)?;
        self.inference.take_profile();
        let (mut speeds, mut limits, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let mut before = limit(self);
        for _ in 0..self.plan.repetitions {
            let start = Instant::now();
            work(self)?;
            let speed = tokens as f64 / start.elapsed().as_secs_f64();
            let after = limit(self);
            let around = before.midpoint(after);
            speeds.push(speed);
            limits.push(around);
            ratios.push(effort(speed) / around);
            before = after;
        }
        let profile = self.inference.take_profile();
        let (slowest, fastest) =
            speeds.iter().fold((f64::MAX, 0f64), |(low, high), &x| (low.min(x), high.max(x)));
        let speed = Speed {
            depth,
            tokens,
            tokens_per_second: median(&mut speeds),
            slowest,
            fastest,
            limit_per_second: median(&mut limits),
            ratio: median(&mut ratios),
            bandwidth_share: None,
        };
        Ok((speed, profile))
    }

    fn prefill(&mut self, positions: std::ops::Range<usize>) -> Result<(), ForwardError> {
        let rows: Vec<Row> =
            positions.clone().map(|position| self.row(position, position + 1 == positions.end)).collect();
        rows.chunks(self.inference.max_rows()).try_for_each(|rows| self.inference.forward(rows))
    }

    fn decode(&mut self, depth: usize) -> Result<(), ForwardError> {
        (depth..depth + self.plan.generate_tokens).try_for_each(|position| {
            self.inference.forward(&[self.row(position, true)])?;
            // What a request without parameters asks for.
            std::hint::black_box(self.inference.select(0, Some(Demand::Top(40)), std::iter::empty()));
            Ok(())
        })
    }

    /// Any token will do: the work does not depend on it.
    fn row(&self, position: usize, logits: bool) -> Row {
        let token = any_token(position, self.inference.hyperparameters().vocab_size);
        Row { token, slot: 0, position, logits }
    }

    /// Bytes a second that all threads read from the weights.
    fn read(&mut self) -> f64 {
        let isa = self.isa;
        self.inference.with_pool(|model, pool| {
            let buffers = model.buffers();
            let start = Instant::now();
            std::hint::black_box(limits::read(pool, isa, &buffers));
            buffers.iter().map(|buffer| buffer.len()).sum::<usize>() as f64 / start.elapsed().as_secs_f64()
        })
    }

    /// Multiply-adds a second of all threads.
    fn multiply(&mut self) -> f64 {
        let isa = self.isa;
        self.inference.with_pool(|_, pool| {
            let start = Instant::now();
            limits::multiply(pool, isa, MULTIPLY_ROUNDS) as f64 / start.elapsed().as_secs_f64()
        })
    }
}

fn any_token(position: usize, vocab_size: usize) -> u32 {
    ((position as u64).wrapping_mul(2_654_435_761) % vocab_size as u64) as u32
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { values[middle - 1].midpoint(values[middle]) }
}

fn stages(profile: &Profile, tokens: usize) -> Vec<StageTime> {
    let time = |stage: Stage| profile.spent(stage).as_secs_f64() * 1e6 / tokens as f64;
    Stage::ALL.into_iter().map(|stage| StageTime { stage: stage.name(), microseconds: time(stage) }).collect()
}
