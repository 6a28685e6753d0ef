//! Load for a server that speaks llama.cpp's or OpenAI's protocol: how many tokens a second it gives to so many clients at once, how long
//! running answers pause while a long prompt is read, and whether it bears minutes of mixed traffic.
//!
//! Like the tests, this knows the wire alone, so that any such server can be measured beside ours.

mod arguments;
mod gap;
mod prompts;
mod random;
mod soak;
mod statistics;
mod stream;
mod table;
mod throughput;
mod wire;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::Parser as _;

/// Fails when a request failed that should not have: figures of a server that refuses are not those that were asked for.
#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Throughput(arguments) => throughput::run(&arguments).await,
        Command::Gap(arguments) => gap::run(&arguments).await,
        Command::Soak(arguments) => soak::run(&arguments).await,
    };
    match result {
        Ok(report) => {
            println!("{}", report.text);
            if report.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a command prints on standard output, and whether anything in it is a failure.
struct Report {
    text: String,
    failed: bool,
}
