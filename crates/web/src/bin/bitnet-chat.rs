//! `bitnet-chat`: engine and page in one process, for a first try (`cargo chat`) and for the single-container image.
//! The two still meet on the engine's port, so neither knows the difference.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use bitnet_engine::config::{service_links, with_environment};
use bitnet_web::config::{bearer, without_stray_variables};
use bitnet_web::listener::Listener;
use bitnet_web::server;
use clap::builder::Resettable;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use futures_util::FutureExt;
use reqwest::Url;

/// BitNet chat: engine and page in one program
#[derive(Parser)]
#[command(name = "bitnet-chat", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    engine: bitnet_engine::config::Config,
    #[command(flatten)]
    web: bitnet_web::config::Config,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the page and the engine (default)
    Serve,
    /// Exit with 0 when the page of the server on this machine is alive; needs the same flags or environment
    Healthcheck,
}

/// The flags of both programs, each with its own environment variables, and a warning for each variable that is passed over.
fn command() -> (clap::Command, Vec<String>) {
    let command = Cli::command();
    let mut warnings = service_links(&command);
    let command = command.mut_args(|argument| match argument.get_id().as_str() {
        // The engine is in this process, and the page asks wherever it listens.
        "engine_url" | "engine_api_key" => argument.hide(true).env(Resettable::Reset),
        _ if argument.get_env().is_some() => argument,
        // The engine names its variables when it parses, not where it declares its flags.
        _ => with_environment(argument),
    });
    let (command, of_the_page) = without_stray_variables(command);
    warnings.extend(of_the_page);
    (command.mut_args(|argument| argument.global(true)), warnings)
}

#[tokio::main]
async fn main() -> ExitCode {
    let (command, warnings) = command();
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Some(Command::Healthcheck) => server::check_health(&cli.web.addresses()).await,
        Some(Command::Serve) | None => serve(cli.engine, cli.web, &warnings).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(
    engine: bitnet_engine::config::Config,
    mut web: bitnet_web::config::Config,
    warnings: &[String],
) -> anyhow::Result<()> {
    bitnet_engine::logging::start(engine.log_format, engine.log_filter("info"))?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }

    let web_listener = Listener::bind(&web.addresses())?;
    let page = first(&web_listener.addresses()?)?;
    // Whoever gives the page the engine's port wants to reach the page there; the engine needs no port that others know.
    let port = if engine.port == page.port() { 0 } else { engine.port };
    let engine_listener = bitnet_engine::server::Listener::bind(&engine.host, port).await?;
    web.engine_url = Url::parse(&format!("http://{}/", first(&engine_listener.addresses()?)?))?;
    web.engine_api_key = engine.api_key.first().map(|key| bearer(key)).transpose().map_err(anyhow::Error::msg)?;
    println!("Chat at http://{page}");

    // Both learn of the signal at once: the engine still finishes the answers for which the page waits.
    let stop = server::termination().shared();
    let engine = bitnet_engine::server::run(&engine, engine_listener, stop.clone());
    let web = server::run(web, web_listener, stop);
    tokio::try_join!(engine, web)?;
    Ok(())
}

/// Where a program on this machine reaches a server with these addresses.
fn first(addresses: &[SocketAddr]) -> anyhow::Result<SocketAddr> {
    addresses.first().copied().map(server::reachable).context("no address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_both_programs_go_together() {
        command().0.debug_assert();
    }
}
