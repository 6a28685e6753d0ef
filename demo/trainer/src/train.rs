//! A whole training: from nothing, or from a checkpoint, to a model file and the curve of its losses.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::checkpoint::{self, Progress};
use crate::corpus::Lessons;
use crate::curve::{Curve, Point};
use crate::export;
use crate::optimizer::Schedule;
use crate::sequence::Encoder;
use crate::shape::Shape;
use crate::trainer::{Step, Trainer};

/// Steps between two lines of progress.
const REPORT: u64 = 100;
/// Time between two checkpoints.
const SAVE: Duration = Duration::from_secs(180);
/// Tokens by which the losses on other conversations are measured, for each of the two.
const MEASURED_TOKENS: usize = 8_192;
/// Part of the time that is planned for steps: the rest goes into measuring and saving.
const STEPS_SHARE: f64 = 0.97;

/// When a training ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// After so many steps.
    Steps(u64),
    /// After about this time: the number of steps follows from the speed of the first ones, up to the end of the warm-up.
    Time(Duration),
}

/// What to train, and where to put it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The model's sizes; the vocabulary is an upper limit.
    pub shape: Shape,
    /// The model file; the curve is written beside it.
    pub out: PathBuf,
    /// After which steps or time it ends.
    pub length: Length,
    /// What all random numbers follow from.
    pub seed: u64,
    /// How far steps go.
    pub schedule: Schedule,
    /// Tokens of a step.
    pub batch_tokens: usize,
    /// Where to save, in order to go on after an interruption.
    pub checkpoint: Option<PathBuf>,
    /// Whether to go on from there.
    pub resume: bool,
}

/// Trains, and writes the model file.
pub fn run(plan: &Plan, lessons: &Lessons) -> Result<()> {
    let curve_path = plan.out.with_extension("csv");
    let (mut trainer, vocabulary, mut progress) = match &plan.checkpoint {
        Some(path) if plan.resume => checkpoint::load(path, plan.shape)?,
        _ => {
            let vocabulary = lessons.vocabulary(plan.shape.vocab)?;
            let shape = Shape { vocab: vocabulary.tokens.len(), ..plan.shape };
            let progress = Progress { seed: plan.seed, ..Progress::default() };
            (Trainer::new(shape, plan.seed), vocabulary, progress)
        }
    };
    let encoder = Encoder::new(&vocabulary)?;
    let shape = trainer.network.layout.shape;
    let mut curve = Curve::load(&curve_path, trainer.optimizer.steps)?;
    if let Length::Steps(steps) = plan.length {
        progress.total = steps;
    }
    let validation = lessons.validation(&encoder, MEASURED_TOKENS, shape.context)?;
    let held_out = lessons.held_out(&encoder, MEASURED_TOKENS, shape.context)?;
    println!("{} parameters, {} tokens in the vocabulary", trainer.network.layout.parameters(), shape.vocab);
    println!(
        "{:>8} {:>11} {:>8} {:>9} {:>8} {:>10} {:>8} {:>8}",
        "step", "tokens", "tokens/s", "rate", "loss", "validation", "held out", "gradient"
    );

    let (mut measured, mut saved) = (Measured::start(progress), Instant::now());
    while progress.total == 0 || trainer.optimizer.steps < progress.total {
        let rates = plan.schedule.at(trainer.optimizer.steps, progress.total_or_more());
        let step = trainer.step(lessons, &encoder, plan.batch_tokens, rates)?;
        if !step.loss.is_finite() {
            bail!(
                "the loss is no longer a number after step {}; a lower --learning-rate may help",
                trainer.optimizer.steps
            );
        }
        measured.add(step, &mut progress);
        let steps = trainer.optimizer.steps;
        if let Length::Time(time) = plan.length
            && progress.total == 0
            && steps >= plan.schedule.warm_up.max(1)
        {
            let each = progress.milliseconds as f64 / steps as f64;
            progress.total = steps.max((STEPS_SHARE * time.as_millis() as f64 / each) as u64);
            println!("{} steps fit into the time (the same again: --steps {0})", progress.total);
        }
        if steps.is_multiple_of(REPORT) || steps == progress.total {
            let losses = (trainer.loss(&validation), trainer.loss(&held_out));
            curve.0.push(measured.point(steps, rates.0, losses, &progress));
            curve.save(&curve_path)?;
        }
        if let Some(path) = &plan.checkpoint
            && (saved.elapsed() > SAVE || steps == progress.total)
        {
            checkpoint::save(path, &trainer, &vocabulary, &progress)?;
            saved = Instant::now();
        }
    }
    let bytes = export::gguf(&trainer.network.layout, &trainer.master, &vocabulary);
    fs::write(&plan.out, &bytes).with_context(|| format!("cannot write {}", plan.out.display()))?;
    println!("{}: {} bytes", plan.out.display(), bytes.len());
    Ok(())
}

/// What happened since the last line of progress.
struct Measured {
    /// When this run began, and what earlier ones took.
    started: Instant,
    before: u64,
    since: Instant,
    steps: Step,
}

impl Measured {
    fn start(progress: Progress) -> Self {
        let now = Instant::now();
        Self { started: now, before: progress.milliseconds, since: now, steps: Step::default() }
    }

    fn add(&mut self, step: Step, progress: &mut Progress) {
        self.steps.loss += step.loss;
        self.steps.tokens += step.tokens;
        self.steps.targets += step.targets;
        self.steps.gradient = step.gradient;
        progress.tokens += step.tokens as u64;
        progress.milliseconds = self.before + self.started.elapsed().as_millis() as u64;
    }

    /// Prints a line and begins anew.
    fn point(
        &mut self,
        step: u64,
        rate: f32,
        (validation, held_out): (f64, f64),
        progress: &Progress,
    ) -> Point {
        let Step { loss, targets, tokens, gradient } = std::mem::take(&mut self.steps);
        let speed = tokens as f64 / self.since.elapsed().as_secs_f64();
        let loss = loss / targets.max(1) as f64;
        println!(
            "{step:>8} {:>11} {speed:>8.0} {rate:>9.2e} {loss:>8.4} {validation:>10.4} {held_out:>8.4} {gradient:>8.3}",
            progress.tokens
        );
        self.since = Instant::now();
        let seconds = progress.milliseconds as f64 / 1e3;
        Point { step, tokens: progress.tokens, seconds, rate, loss, validation, held_out }
    }
}
