//! `bench`: tokens a second, beside what the machine could do.

use std::io::Write;
use std::time::Instant;

use anyhow::{Result, ensure};
use bitnet_engine::bench::{
    Agreement, Inference, LmHeadType, Plan, Report, Resource, Speed, StageLimit, StageTime, agreement,
    agreement_positions, run as measure,
};
use bitnet_engine::config::{Bench, Config};
use bitnet_engine::engine;
use bitnet_engine::hub::{self, LocalModel};
use serde::Serialize;

use super::output;
use super::progress;

/// What was measured on what.
#[derive(Serialize)]
struct Output {
    model: String,
    file_bytes: u64,
    isa: &'static str,
    threads: usize,
    /// How the output head is kept.
    head: &'static str,
    load_seconds: f64,
    /// The most memory that was in use; `None` where the system does not tell.
    peak_memory_bytes: Option<u64>,
    /// How many tokens are those of the exact head, if it was asked for.
    agreement: Option<Agreement>,
    #[serde(flatten)]
    report: Report,
}

pub(crate) fn run(config: &Config, options: &Bench) -> Result<()> {
    let isa = config.isa;
    let model = progress::shown(|stages| hub::resolve(&config.model, &config.hub(), stages))?;
    let file_bytes = model.open()?.len();
    let started = Instant::now();
    let mut inference = load(config, &model)?;
    let load_seconds = started.elapsed().as_secs_f64();

    let plan = Plan {
        prompt_tokens: options.prompt_tokens,
        generate_tokens: options.generate_tokens,
        depths: options.depth.clone(),
        repetitions: options.repetitions,
    };
    let deepest = plan.depths.iter().map(|depth| depth + plan.generate_tokens).chain([plan.prompt_tokens]);
    let deepest = deepest.chain(options.agreement.map(agreement_positions)).max();
    let (needed, context) = (deepest.unwrap_or(0), inference.context());
    ensure!(needed <= context, "this needs a context of {needed} tokens; the model has {context}");

    let report = measure(&mut inference, isa, &plan, file_bytes)?;
    let peak_memory_bytes = peak_memory();
    let agreement = options.agreement.map(|tokens| -> Result<_> {
        let mut exact = config.clone();
        exact.head = LmHeadType::Exact;
        let mut exact = load(&exact, &model)?;
        Ok(agreement(&mut inference, &mut exact, tokens)?)
    });
    let output = Output {
        model: config.model.to_string(),
        file_bytes,
        isa: isa.name(),
        threads: engine::threads(config)?.get(),
        head: config.head_name(),
        load_seconds,
        peak_memory_bytes,
        agreement: agreement.transpose()?,
        report,
    };
    let mut out = output::Output::new();
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&output)?)?;
    } else {
        print(&mut out, &output, options.profile)?;
    }
    Ok(())
}

/// The model alone: neither tokens nor templates are needed.
fn load(config: &Config, model: &LocalModel) -> Result<Inference> {
    engine::inference(config, &engine::checkpoint(model)?)
}

fn print(out: &mut impl Write, output: &Output, profile: bool) -> Result<()> {
    let Output { report, .. } = output;
    writeln!(out, "{}", output.model)?;
    writeln!(
        out,
        "{} threads, {}, {} head; loaded in {:.2} s{}",
        output.threads,
        output.isa,
        output.head,
        output.load_seconds,
        output
            .peak_memory_bytes
            .map_or(String::new(), |bytes| format!("; peak memory {:.2} GB", giga(bytes as f64))),
    )?;
    writeln!(out, "medians of runs between two measurements of the machine's own limit\n")?;
    writeln!(out, "{:<24} {:>9} {:>17}  {:<30} {:>6}", "", "tokens/s", "range", "limit", "ratio")?;
    let line = |out: &mut dyn Write, name: String, speed: &Speed, limit: String| {
        let range = format!("{:.2}–{:.2}", speed.slowest, speed.fastest);
        writeln!(
            out,
            "{name:<24} {:>9.2} {range:>17}  {limit:<30} {:>6.3}",
            speed.tokens_per_second, speed.ratio
        )
    };
    let prefill = &report.prefill;
    let limit = format!("{:.0} G multiply-adds/s", giga(prefill.limit_per_second));
    line(out, format!("prefill {}", prefill.tokens), prefill, limit)?;
    for speed in &report.decode {
        let limit = format!("{:.1} GB/s read", giga(speed.limit_per_second));
        line(out, format!("decode {} at depth {}", speed.tokens, speed.depth), speed, limit)?;
        if let Some(share) = speed.bandwidth_share {
            writeln!(out, "{:<24} {:>8.0} % of the read bandwidth in use", "", share * 100.0)?;
        }
    }
    writeln!(
        out,
        "\nprefill ratio: tokens/s × {:.3} G ternary weights ÷ multiply-adds/s\n\
         decode ratio: tokens/s × {:.4} GB of model file ÷ bytes/s; a token reads {:.3} GB of weights",
        giga(report.ternary_weights as f64),
        giga(output.file_bytes as f64),
        giga(report.bytes_per_token as f64),
    )?;
    if let Some(Agreement { with_model, with_head }) = output.agreement {
        writeln!(
            out,
            "greedy tokens that --head exact gives as well: {:.1} % after the same text, {:.1} % after the same state",
            with_model * 100.0,
            with_head * 100.0,
        )?;
    }
    if profile {
        print_stages(out, &format!("prefill {}", prefill.tokens), prefill)?;
        for speed in &report.decode {
            print_stages(out, &format!("decode {} at depth {}", speed.tokens, speed.depth), speed)?;
        }
    }
    Ok(())
}

/// Where a token's time goes, and what share of its own limit each stage reaches.
fn print_stages(out: &mut impl Write, name: &str, speed: &Speed) -> Result<()> {
    writeln!(out, "\n{name:<20}   {:>10} {:>8}   of its own limit", "µs a token", "of all")?;
    let total: f64 = speed.stages.iter().map(|stage| stage.microseconds).sum();
    for StageTime { stage, microseconds, limit } in &speed.stages {
        let limit = limit.map_or("–".to_owned(), |StageLimit { resource, per_second, share, .. }| {
            let per_second = giga(per_second);
            let limit = match resource {
                Resource::MultiplyAdds => format!("{per_second:.0} G multiply-adds/s"),
                Resource::FloatMultiplyAdds => format!("{per_second:.0} G f32 multiply-adds/s"),
                Resource::Bytes => format!("{per_second:.1} GB/s read"),
            };
            format!("{:>3.0} % of {limit}", share * 100.0)
        });
        writeln!(
            out,
            "  {stage:<20} {microseconds:>10.1} {:>6.1} %   {limit}",
            microseconds / total * 100.0
        )?;
    }
    Ok(())
}

fn giga(value: f64) -> f64 {
    value / 1e9
}

/// The high-water mark of resident memory, as Linux reports it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
