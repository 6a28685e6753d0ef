//! `bitnet-web`: serves the chat page and relays to `bitnet-engine`.

use anyhow::Context;
use bitnet_web::config::Config;
use bitnet_web::server;
use clap::{Parser, Subcommand};
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
    /// Exit with 0 when the server on this machine is alive; give it the same flags and environment
    Healthcheck,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Cli { command, config } = Cli::parse();
    match command {
        Some(Command::Healthcheck) => {
            server::check_health(config.address()).await.context("the server is not healthy")
        }
        Some(Command::Serve) | None => {
            tracing_subscriber::fmt()
                .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
                .with_writer(std::io::stderr)
                .init();
            let listener = server::listen(config.address()).await?;
            tracing::info!(engine = %config.engine_url, "listening on http://{}", listener.local_addr()?);
            server::run(config, listener, server::termination()).await
        }
    }
}
