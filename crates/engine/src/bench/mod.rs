//! Measures how fast a model runs, beside what the machine could do at most.
//!
//! A machine's speed drifts, and so does the place of its pages. So the limits are measured over the engine's own weights,
//! just before and just after each piece of work, and each run is held against those two; medians are reported.

mod agreement;
mod decoder;
pub mod kernels;
mod limits;
mod several;
mod stages;

use std::time::Instant;

use serde::Serialize;

pub use self::agreement::{Agreement, agreement, positions as agreement_positions};
pub use self::decoder::Decoder;
pub use self::limits::Resource;
pub use self::several::Several;
use self::stages::{Need, decode_need, prefill_need, stages};
pub use self::stages::{StageLimit, StageTime};
use crate::kernels::Isa;
use crate::logits::Demand;
use crate::model::{ForwardError, LogitRequest, Run, Stage, Wanted};
pub use crate::model::{Inference, LmHeadType};

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
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    /// Tokens in the context before.
    pub depth: usize,
    /// Tokens of one run.
    pub tokens: usize,
    /// Median of the repetitions.
    pub tokens_per_second: f64,
    /// Tokens a second of the slowest repetition.
    pub slowest: f64,
    /// Tokens a second of the fastest one.
    pub fastest: f64,
    /// What the machine could do, measured around the runs: bytes read or multiply-adds, a second.
    pub limit_per_second: f64,
    /// Prefill: multiply-adds with ternary weights. Decode: times that the model file could be read.
    pub ratio: f64,
    /// Decode: the share of the read bandwidth that is used by the weights and the KV cache that are read, without the few rows
    /// of `lm_head` whose logits are computed after a search, in memory or in the file.
    pub bandwidth_share: Option<f64>,
    /// Where a token's time goes.
    pub stages: Vec<StageTime>,
}

/// What [`run`] has measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The whole prompt at once, from an empty context.
    pub prefill: Speed,
    /// Decoding at each depth.
    pub decode: Vec<Speed>,
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

    let tokens = plan.prompt_tokens;
    let run = Work {
        depth: 0,
        tokens,
        resources: &[Resource::MultiplyAdds, Resource::FloatMultiplyAdds],
        amount: ternary_weights as f64,
    };
    let prefill = bench.measure(
        &run,
        |bench| bench.prefill(0..tokens),
        |inference, stage| prefill_need(inference, tokens, stage),
    )?;

    let mut decode = Vec::new();
    for &depth in &plan.depths {
        bench.prefill(0..depth)?;
        let tokens = plan.generate_tokens;
        let run = Work { depth, tokens, resources: &[Resource::Bytes], amount: file_bytes as f64 };
        // Of the token in the middle.
        let middle = depth + tokens / 2;
        let mut speed = bench.measure(
            &run,
            |bench| bench.decode(depth),
            |inference, stage| decode_need(inference, middle, stage),
        )?;
        let read = (bytes_per_token + bench.inference.kv_bytes(middle)) as f64;
        speed.bandwidth_share = Some(speed.ratio * read / file_bytes as f64);
        decode.push(speed);
    }
    Ok(Report { prefill, decode, ternary_weights, bytes_per_token })
}

struct Bench<'a> {
    inference: &'a mut Inference,
    isa: Isa,
    plan: &'a Plan,
}

/// What is measured together.
struct Work<'a> {
    depth: usize,
    tokens: usize,
    /// What to measure around it; the whole run is held against the first.
    resources: &'a [Resource],
    /// How much of the first a token is said to need.
    amount: f64,
}

impl Bench<'_> {
    /// Limits, work, limits, work, …, limits.
    fn measure(
        &mut self,
        run: &Work<'_>,
        mut work: impl FnMut(&mut Self) -> Result<(), ForwardError>,
        need: impl Fn(&Inference, Stage) -> Need,
    ) -> Result<Speed, ForwardError> {
        let &Work { depth, tokens, resources, amount } = run;
        self.limits(resources);
        work(self)?;
        self.inference.take_profile();
        let (mut speeds, mut ratios) = (Vec::new(), Vec::new());
        let mut limits = vec![Vec::new(); resources.len()];
        let mut before = self.limits(resources);
        for _ in 0..self.plan.repetitions {
            let start = Instant::now();
            work(self)?;
            let speed = tokens as f64 / start.elapsed().as_secs_f64();
            let after = self.limits(resources);
            for ((limits, before), after) in limits.iter_mut().zip(before).zip(&after) {
                limits.push(before.midpoint(*after));
            }
            speeds.push(speed);
            ratios.extend(limits[0].last().map(|around| amount * speed / around));
            before = after;
        }
        let profile = self.inference.take_profile();
        let (slowest, fastest) =
            speeds.iter().fold((f64::MAX, 0f64), |(low, high), &x| (low.min(x), high.max(x)));
        let limits: Vec<f64> = limits.iter_mut().map(|limits| median(limits)).collect();
        let per_second =
            |resource| resources.iter().position(|&measured| measured == resource).map(|index| limits[index]);
        Ok(Speed {
            depth,
            tokens,
            tokens_per_second: median(&mut speeds),
            slowest,
            fastest,
            limit_per_second: limits[0],
            ratio: median(&mut ratios),
            bandwidth_share: None,
            stages: stages(
                &profile,
                tokens * self.plan.repetitions,
                |stage| need(self.inference, stage),
                per_second,
            ),
        })
    }

    /// What the machine can do at this moment.
    fn limits(&mut self, resources: &[Resource]) -> Vec<f64> {
        resources.iter().map(|resource| resource.measure(self.inference, self.isa)).collect()
    }

    fn prefill(&mut self, positions: std::ops::Range<usize>) -> Result<(), ForwardError> {
        let vocab_size = self.inference.hyperparameters().vocab_size;
        let tokens: Vec<u32> = positions.clone().map(|position| any_token(position, vocab_size)).collect();
        let (at_once, pages) = (self.inference.max_rows(), self.inference.pages_of_one());
        for (start, chunk) in positions.clone().step_by(at_once).zip(tokens.chunks(at_once)) {
            let last = start + chunk.len() == positions.end;
            let logits = if last { Wanted::Last } else { Wanted::None };
            self.inference.forward(&[Run { pages: &pages, start, tokens: chunk, logits }])?;
        }
        Ok(())
    }

    fn decode(&mut self, depth: usize) -> Result<(), ForwardError> {
        let pages = self.inference.pages_of_one();
        (depth..depth + self.plan.generate_tokens).try_for_each(|position| {
            // Any token will do: the work does not depend on it.
            let token = any_token(position, self.inference.hyperparameters().vocab_size);
            self.inference.forward(&[Run {
                pages: &pages,
                start: position,
                tokens: &[token],
                logits: Wanted::Last,
            }])?;
            // What a request without parameters asks for.
            let request = LogitRequest { row: 0, demand: Some(Demand::Top(40)), touched: [] };
            self.inference.select_all([request])?;
            std::hint::black_box(self.inference.found(0)?);
            Ok(())
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
