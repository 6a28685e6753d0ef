//! `bitnet-demo`: trains the demo model, and asks it what it has learned.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitnet_demo_trainer::corpus::Lessons;
use bitnet_demo_trainer::evaluate::{Chat, score};
use bitnet_demo_trainer::optimizer::Schedule;
use bitnet_demo_trainer::shape::Shape;
use bitnet_demo_trainer::train::{Length, Plan, run};
use clap::{Args, Parser, Subcommand};

/// Steps of a training that is given neither a time nor a number of steps: those of the published model.
const STEPS: u64 = 24_000;

#[derive(Debug, Parser)]
#[command(
    name = "bitnet-demo",
    version,
    about = "Trains the demo model of bitnet-engine, a tiny BitNet b1.58, on a plain CPU",
    after_help = "Build it with --release. Example, an hour and a half on two cores:\n\n  \
                  bitnet-demo train --out demo.gguf --checkpoint demo.train\n  \
                  bitnet-demo evaluate -m demo.gguf --verbose"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model from nothing and write it as GGUF
    ///
    /// Everything that is random follows from the seed, and sums are computed in the same order on any number of threads: the same seed and
    /// number of steps give the same file on the same kind of CPU.
    Train(Train),
    /// Ask a model the held-out questions and print how many answers are right
    ///
    /// The model file is loaded and run by bitnet-engine; each token is the likeliest one.
    Evaluate(Evaluate),
}

#[derive(Debug, Args)]
struct Train {
    /// Model file to write; beside it the losses so far, as .csv and .svg
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// How many steps to train
    #[arg(long, value_name = "N", default_value_t = STEPS, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// About how long to train; the number of steps follows from the speed of the first ones
    #[arg(long, value_name = "N", conflicts_with = "steps")]
    minutes: Option<f64>,
    /// What all random numbers follow from
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// File to save the training in every three minutes, so that --resume can go on after an interruption
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Go on from the checkpoint, with the same other options
    #[arg(long, requires = "checkpoint")]
    resume: bool,
    /// The highest learning rate; it rises in a line during the warm-up and falls in a line to 0
    #[arg(long, value_name = "X", default_value = "0.003")]
    learning_rate: f32,
    /// Steps of the warm-up
    #[arg(long, value_name = "N", default_value = "200")]
    warm_up: u64,
    /// Weight decay of the ternary weights in the first half of the training
    #[arg(long, value_name = "X", default_value = "0.1")]
    weight_decay: f32,
    /// Tokens of a step, up to a million
    #[arg(long, value_name = "N", default_value = "2048", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch_tokens: u32,
    /// Threads; more than 4 do not help [default: all CPUs]
    #[arg(long, short, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Debug, Args)]
struct Evaluate {
    /// Model file
    #[arg(long, short, value_name = "FILE")]
    model: PathBuf,
    /// Also print each wrong answer
    #[arg(long, short)]
    verbose: bool,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Train(arguments) => train(arguments),
        Command::Evaluate(arguments) => evaluate(&arguments),
    }
}

fn train(arguments: Train) -> Result<()> {
    let Train { out, minutes, steps, seed, checkpoint, resume, threads, .. } = arguments;
    let length = match minutes {
        None => Length::Steps(steps),
        Some(minutes) => {
            ensure!(minutes.is_finite() && minutes > 0.0, "--minutes must be a positive number");
            Length::Time(Duration::try_from_secs_f64(60.0 * minutes).context("--minutes is too large")?)
        }
    };
    rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build_global()?;
    let schedule = Schedule {
        peak: arguments.learning_rate,
        warm_up: arguments.warm_up,
        weight_decay: arguments.weight_decay,
    };
    let lessons = Lessons::load()?;
    let plan = Plan {
        shape: Shape::DEMO,
        out,
        length,
        seed,
        schedule,
        batch_tokens: arguments.batch_tokens as usize,
        checkpoint,
        resume,
    };
    run(&plan, &lessons)?;
    print_score(&plan.out, &lessons, false)
}

fn evaluate(arguments: &Evaluate) -> Result<()> {
    print_score(&arguments.model, &Lessons::load()?, arguments.verbose)
}

fn print_score(model: &std::path::Path, lessons: &Lessons, verbose: bool) -> Result<()> {
    let mut chat = Chat::open(model)?;
    let score = score(&mut chat, lessons).context("the model cannot be evaluated")?;
    if verbose {
        for failure in &score.failures {
            println!("{}\n    → {}", failure.asked.join("\n    … "), failure.answer);
        }
    }
    for (group, &(right, asked)) in &score.groups {
        print_line(group, right, asked);
    }
    let (right, asked) = score.total();
    print_line("all held-out questions", right, asked);
    Ok(())
}

fn print_line(name: &str, right: usize, asked: usize) {
    println!(
        "{name:<32} {right:>5} of {asked:>5} right  {:>5.1} %",
        100.0 * right as f64 / asked.max(1) as f64
    );
}
