//! Clients that ask again as soon as they have their answer: what each number of them gets, beside what one alone gets in the same round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use reqwest::Client;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::Report;
use crate::arguments::{Asked, Throughput};
use crate::prompts::Prompts;
use crate::statistics::{Spread, median};
use crate::stream::{Answer, Failure, Reading};
use crate::table;
use crate::wire::Server;

/// What so many clients got; times in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) clients: usize,
    /// Of all answers, from the first request to the end of the last answer.
    pub(crate) tokens_per_second: f64,
    /// The same as a multiple of what the smallest number of clients got in the same round.
    pub(crate) of_first: f64,
    /// The same as a multiple of what the first server gave in the same round.
    pub(crate) of_first_server: f64,
    /// Of one answer, from its first token to its last: the median.
    pub(crate) tokens_per_second_of_a_stream: f64,
    pub(crate) first_token_ms: Spread,
    pub(crate) gap_ms: Spread,
    pub(crate) answers: usize,
    pub(crate) prompt_tokens: usize,
    pub(crate) tokens: usize,
    pub(crate) seconds: f64,
    pub(crate) errors: BTreeMap<String, usize>,
}

/// A server that is measured.
struct Measured {
    server: Server,
    prompts: Prompts,
}

pub(crate) async fn run(arguments: &Throughput) -> Result<Report> {
    let asked = &arguments.asked;
    let mut servers = Vec::new();
    for url in &arguments.url {
        let server = Server { url: url.clone(), api: asked.api, key: asked.api_key.clone() };
        let prompts = Prompts::of(&server).await?;
        let measured = Arc::new(Measured { server, prompts });
        // Whatever is made at a first request is not part of the figures; and whoever answers nothing is found here.
        one(&measured, &client()?, 0, asked).await.map_err(|failure| anyhow!("{url}: {failure}"))?;
        servers.push(measured);
    }
    // By server and number of clients, one of each round.
    let mut rounds = vec![vec![Vec::new(); arguments.clients.len()]; servers.len()];
    for round in 0..arguments.rounds.get() {
        for (index, clients) in arguments.clients.iter().enumerate() {
            for (number, server) in servers.iter().enumerate() {
                let mut figures = measure(server, clients.get(), round, arguments).await?;
                let first = |list: &[Vec<Figures>]| list[0].get(round).map(|first| first.tokens_per_second);
                let now = figures.tokens_per_second;
                figures.of_first = now / first(&rounds[number]).unwrap_or(now);
                figures.of_first_server =
                    now / rounds[0][index].get(round).map_or(now, |first| first.tokens_per_second);
                rounds[number][index].push(figures);
            }
        }
    }
    let results: Vec<Vec<_>> =
        rounds.iter().map(|of_server| of_server.iter().map(|rounds| medians(rounds)).collect()).collect();
    let failed = results.iter().flatten().any(|figures| !figures.errors.is_empty());
    let text = if asked.json {
        as_json(arguments, &results).to_string()
    } else {
        table::throughput(arguments, &results)
    };
    Ok(Report { text, failed })
}

/// A client has one connection, as a person's program has.
fn client() -> Result<Client> {
    Ok(Client::builder().no_proxy().tcp_nodelay(true).build()?)
}

async fn one(measured: &Measured, client: &Client, number: u64, asked: &Asked) -> Result<Answer, Failure> {
    let prompt = measured.prompts.prompt(number, asked.prompt_tokens.get());
    Reading::open(client, &measured.server, &prompt, asked.max_tokens.get()).await?.whole().await
}

async fn measure(
    server: &Arc<Measured>,
    clients: usize,
    round: usize,
    arguments: &Throughput,
) -> Result<Figures> {
    let requests = arguments.requests.get();
    let asked = Arc::new(arguments.asked.clone());
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        let (server, asked, client) = (Arc::clone(server), Arc::clone(&asked), client()?);
        tasks.spawn(async move {
            let mut answers = Vec::new();
            for request in 0..requests {
                let prompt = ((round << 20 | number) * requests + request + 1) as u64;
                answers.push(one(&server, &client, prompt, &asked).await);
            }
            answers
        });
    }
    let start = Instant::now();
    let results: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    Ok(figures(clients, start, &results))
}

fn figures(clients: usize, start: Instant, results: &[Result<Answer, Failure>]) -> Figures {
    let answers: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    let mut errors = BTreeMap::new();
    for failure in results.iter().filter_map(|result| result.as_ref().err()) {
        *errors.entry(failure.to_string()).or_default() += 1;
    }
    let end = answers.iter().map(|answer| answer.ended).max().unwrap_or(start);
    let seconds = end.duration_since(start).as_secs_f64();
    let tokens = answers.iter().map(|answer| answer.tokens).sum();
    Figures {
        clients,
        tokens_per_second: if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 },
        of_first: 1.0,
        of_first_server: 1.0,
        tokens_per_second_of_a_stream: median(answers.iter().filter_map(|answer| answer.pace())),
        first_token_ms: Spread::of(answers.iter().filter_map(|answer| answer.first_token_ms())),
        gap_ms: Spread::of(answers.iter().flat_map(|answer| answer.gaps_ms())),
        answers: answers.len(),
        prompt_tokens: answers.iter().map(|answer| answer.prompt_tokens).sum(),
        tokens,
        seconds,
        errors,
    }
}

/// The median of each figure; counts and errors of all rounds together.
fn medians(rounds: &[Figures]) -> Figures {
    let of = |figure: fn(&Figures) -> f64| median(rounds.iter().map(figure));
    let sum = |count: fn(&Figures) -> usize| rounds.iter().map(count).sum();
    let spread =
        |figure: fn(&Figures) -> Spread| Spread::median(&rounds.iter().map(figure).collect::<Vec<_>>());
    let mut errors = BTreeMap::new();
    for (error, count) in rounds.iter().flat_map(|round| &round.errors) {
        *errors.entry(error.clone()).or_default() += count;
    }
    Figures {
        clients: rounds.first().map_or(0, |round| round.clients),
        tokens_per_second: of(|round| round.tokens_per_second),
        of_first: of(|round| round.of_first),
        of_first_server: of(|round| round.of_first_server),
        tokens_per_second_of_a_stream: of(|round| round.tokens_per_second_of_a_stream),
        first_token_ms: spread(|round| round.first_token_ms),
        gap_ms: spread(|round| round.gap_ms),
        answers: sum(|round| round.answers),
        prompt_tokens: sum(|round| round.prompt_tokens),
        tokens: sum(|round| round.tokens),
        seconds: rounds.iter().map(|round| round.seconds).sum(),
        errors,
    }
}

fn as_json(arguments: &Throughput, results: &[Vec<Figures>]) -> Value {
    let servers: Vec<_> = arguments
        .url
        .iter()
        .zip(results)
        .map(|(url, figures)| json!({"url": url, "clients": figures}))
        .collect();
    json!({"rounds": arguments.rounds, "servers": servers})
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// An answer of as many pieces as tokens, one each 10 ms, the first after 100.
    fn answer(start: Instant, tokens: usize) -> Answer {
        let pieces: Vec<_> =
            (0..tokens as u64).map(|n| start + Duration::from_millis(100 + 10 * n)).collect();
        let ended = pieces[tokens - 1];
        Answer { sent: start, pieces, ended, prompt_tokens: 5, tokens }
    }

    #[test]
    fn answers_count_together_and_failures_by_what_they_were() {
        let start = Instant::now();
        let refused = || Err(Failure::Status(429));
        let results =
            [Ok(answer(start, 11)), refused(), Ok(answer(start, 91)), refused(), Err(Failure::Connection)];
        let figures = figures(2, start, &results);
        assert_eq!((figures.answers, figures.tokens, figures.prompt_tokens), (2, 102, 10));
        assert_eq!((figures.seconds, figures.tokens_per_second), (1.0, 102.0));
        assert_eq!(figures.tokens_per_second_of_a_stream, 100.0);
        assert_eq!((figures.first_token_ms.max, figures.gap_ms.p50), (100.0, 10.0));
        assert_eq!(figures.errors, BTreeMap::from([("429".into(), 2), ("no connection".into(), 1)]));
    }

    #[test]
    fn rounds_are_medians_and_their_errors_add_up() {
        let start = Instant::now();
        let round = |tokens| figures(1, start, &[Ok(answer(start, tokens)), Err(Failure::Status(503))]);
        let medians = medians(&[round(11), round(91), round(31)]);
        assert_eq!(medians.tokens_per_second, round(31).tokens_per_second);
        assert_eq!((medians.tokens, medians.errors["503"]), (133, 3));
    }
}
