//! `bitnet-web`: serves the chat page and relays to `bitnet-engine`.

use std::io::IsTerminal;
use std::process::ExitCode;

use bitnet_web::config::{self, Config};
use bitnet_web::listener::Listener;
use bitnet_web::server;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Chat page for bitnet-engine
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "RUST_LOG sets what is logged, for example RUST_LOG=bitnet_web=debug."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: Config,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the page (default)
    Serve,
    /// Exit with 0 when the server on this machine is alive; needs the same flags or environment
    Healthcheck,
}

#[tokio::main]
async fn main() -> ExitCode {
    // Flags may stand before and after the command.
    let (command, warnings) = config::without_stray_variables(Cli::command());
    let command = command.mut_args(|argument| argument.global(true));
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Some(Command::Healthcheck) => server::check_health(&cli.config.addresses()).await,
        Some(Command::Serve) | None => serve(cli.config, &warnings).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config, warnings: &[String]) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let listener = Listener::bind(&config.addresses())?;
    for address in listener.addresses()? {
        tracing::info!(engine = %config.engine_url, "listening on http://{address}");
    }
    server::run(config, listener, server::termination()).await
}
