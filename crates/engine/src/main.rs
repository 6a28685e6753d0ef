//! The program: reads the command line, starts what it asks for, and turns the result into an
//! exit status.

mod commands;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use bitnet_engine::config::{Command, Config, Invocation};
use bitnet_engine::engine::Engine;
use bitnet_engine::logging;
use bitnet_engine::server::{self, Listener};
use tracing::{info, warn};

fn main() -> ExitCode {
    // clap prints its errors and the help itself, and ends the program with its own status.
    let Invocation { command, config, warnings } =
        Invocation::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match run(command, &config, &warnings) {
        Ok(code) => code,
        Err(error) if commands::output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever has closed it does not want to know.
            writeln!(std::io::stderr(), "error: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, config: &Config, warnings: &[String]) -> Result<ExitCode> {
    let levels = config.log_filter(match command {
        Command::Serve | Command::Healthcheck { .. } | Command::Bench(_) => "info",
        // What a server tells would stand between the lines of a conversation or through a bar.
        _ if commands::progress::is_drawn() => "warn",
        _ => "warn,bitnet_engine::hub=info",
    });
    logging::start(config.log_format, levels)?;
    for warning in warnings {
        warn!("{warning}");
    }
    match command {
        Command::Serve => {
            block_on(async {
                let listener = Listener::bind(&config.host, config.port).await?;
                server::run(config, listener, told_to_stop()).await
            })?;
            info!("stopped");
        }
        Command::Chat { system } => {
            let engine = commands::progress::shown(|stages| Engine::load(config, stages))?;
            block_on(commands::chat::run(engine, system))?;
        }
        Command::Pull { reference } => commands::pull::run(config, &reference)?,
        Command::Inspect { reference } => commands::inspect::run(config, &reference)?,
        Command::Healthcheck { live } => return commands::healthcheck::run(config, live),
        Command::Bench(options) => commands::bench::run(config, &options)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    // The work of this runtime is moving bytes; computing has threads of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(work);
    // Whatever still tokenizes or reads from the terminal is of no use any more.
    runtime.shutdown_background();
    result
}

/// Resolves at SIGTERM or Ctrl-C; a second one ends the program at once.
async fn told_to_stop() {
    signal().await;
    tokio::spawn(async {
        signal().await;
        std::process::exit(130);
    });
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate => {}
        Ok(()) = tokio::signal::ctrl_c() => {}
    }
}
