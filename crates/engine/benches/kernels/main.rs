//! How fast each kernel is on each instruction set, beside its scalar definition; and the guard that it stays faster.
//!
//!     cargo bench --package bitnet-engine --bench kernels [-- [--check] [part of a name]]
//!
//! Times differ from machine to machine and from minute to minute, so nothing is held against a time: scalar and vector
//! code take turns, and what counts is how many times faster the one is than the other. With `--check` a kernel that does
//! not reach its least ratio is an error. Those ratios are less than half of what was measured when they were written
//! down: they catch code that is no longer compiled for its instruction set, not a few percent. They are of the binary as
//! it is shipped; built for one CPU (`-C target-cpu`), the scalar code is faster too.
//!
//! The harness is our own since none of the known ones measures variants in turns and holds one against the other.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

mod measure;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use bitnet_engine::bench::kernels::{ALL, ForkJoin, Isa, Pool};

use crate::measure::{Measured, in_turns};

/// Measurements of a case that fails before it counts as a failure: a busy machine may spoil one.
const ATTEMPTS: usize = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` says so; `cargo test --all-targets` does not, and wants to know only whether this builds.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let check = arguments.iter().any(|argument| argument == "--check");
    let wanted = |name: &str| {
        let mut parts = arguments.iter().filter(|argument| !argument.starts_with("--")).peekable();
        parts.peek().is_none() || parts.any(|part| name.contains(part.as_str()))
    };

    println!("{:<34} {:<7} {:>12} {:>18} {:>9} {:>8}", "", "", "median", "", "× scalar", "at least");
    let mut failures = Vec::new();
    // One thread: the instructions are measured here, not the other cores.
    let mut pool = Pool::new(NonZeroUsize::MIN).unwrap();
    for build in ALL {
        let mut case = build(&mut pool).unwrap();
        if !wanted(case.name) {
            continue;
        }
        let isas = Isa::available();
        let names: Vec<&str> = isas.iter().map(|isa| isa.name()).collect();
        let floor = |name: &str| match name {
            "avx2" => Some(case.floors.avx2),
            "avxvnni" => Some(case.floors.avxvnni),
            "avx512" => Some(case.floors.avx512),
            _ => None,
        };
        let floors: Vec<Option<f64>> = names.iter().map(|name| floor(name)).collect();
        let throughput = |seconds: f64| format!("{:.2} {}", case.work / seconds / 1e9, case.unit);
        let mut run = |variant: usize| (case.run)(&mut pool, isas[variant]);
        failures
            .extend(report(check, case.name, &names, &floors, throughput, || in_turns(isas.len(), &mut run)));
    }
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        for mut case in ForkJoin::all().unwrap().into_iter().filter(|case| wanted(case.name)) {
            let (names, floors) = (["threads", "pool"], [None, case.floor]);
            let measure = || in_turns(2, &mut case.run);
            failures.extend(report(check, case.name, &names, &floors, |_| String::new(), measure));
        }
    } else {
        println!("fork-join is left out: there is one core");
    }

    for failure in &failures {
        eprintln!("{failure}");
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Measures the variants of a case and prints them; the first is what the others are compared with.
/// Returns what is wrong, which is only looked for when `check` is set.
fn report(
    check: bool,
    case: &str,
    variants: &[&str],
    floors: &[Option<f64>],
    throughput: impl Fn(f64) -> String,
    mut measure: impl FnMut() -> Vec<Measured>,
) -> Vec<String> {
    let mut attempt = 1;
    loop {
        let mut failures = Vec::new();
        for ((&variant, &floor), Measured { seconds, ratio }) in variants.iter().zip(floors).zip(measure()) {
            let least = floor.map_or(String::new(), |floor| format!("{floor:.1}"));
            let (time, throughput) = (duration(seconds), throughput(seconds));
            println!("{case:<34} {variant:<7} {time:>12} {throughput:>18} {ratio:>9.1} {least:>8}");
            if let Some(floor) = floor.filter(|&floor| ratio < floor) {
                failures.push(format!(
                    "too slow: {case} on {variant} is {ratio:.2} times as fast as {}, and must be {floor:.1} times",
                    variants[0]
                ));
            }
        }
        if !check || failures.is_empty() {
            return Vec::new();
        }
        if attempt == ATTEMPTS {
            return failures;
        }
        attempt += 1;
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds >= 1e-3 => format!("{:.2} ms", seconds * 1e3),
        seconds if seconds >= 1e-6 => format!("{:.2} µs", seconds * 1e6),
        seconds => format!("{:.0} ns", seconds * 1e9),
    }
}
