//! Answers that run while a long prompt arrives: how long they pause then, beside how long they pause before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use reqwest::Client;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Report;
use crate::arguments::Gap;
use crate::prompts::Prompts;
use crate::statistics::{Spread, median};
use crate::stream::{Failure, Reading, milliseconds};
use crate::table;
use crate::wire::Server;

/// How many pieces each running answer gets before the long prompt comes: enough to know its own pace.
const BEFORE: usize = 16;

/// The running answers, as their clients see them.
struct Running {
    server: Server,
    prompts: Arc<Prompts>,
    prompt_tokens: usize,
    max_tokens: usize,
    prompt: AtomicU64,
    enough: AtomicBool,
}

/// Two neighbouring pieces of one answer.
type Pause = (Instant, Instant);

pub(crate) async fn run(arguments: &Gap) -> Result<Report> {
    let asked = &arguments.asked;
    let server = Server { url: arguments.url.clone(), api: asked.api, key: asked.api_key.clone() };
    let prompts = Arc::new(Prompts::of(&server).await?);
    let mut rounds = Vec::new();
    let mut errors = BTreeMap::new();
    for round in 0..arguments.rounds.get() as u64 {
        // Numbers that no other round uses.
        let first = round << 32;
        let running = Arc::new(Running {
            server: server.clone(),
            prompts: Arc::clone(&prompts),
            prompt_tokens: asked.prompt_tokens.get(),
            max_tokens: asked.max_tokens.get(),
            prompt: (first + 1).into(),
            enough: false.into(),
        });
        let mut tasks = JoinSet::new();
        let mut started = Vec::new();
        for _ in 0..arguments.clients.get() {
            let (sender, pieces) = watch::channel(0);
            started.push(pieces);
            tasks.spawn(keep_running(Arc::clone(&running), sender));
        }
        for pieces in &mut started {
            // A client that failed has dropped its end; what it has to say is counted below.
            let _ = pieces.wait_for(|&pieces| pieces >= BEFORE).await;
        }
        let long = prompts.prompt(first, arguments.long_prompt.get());
        let sent = Instant::now();
        let first_token = first_token(&server, &long).await;
        running.enough.store(true, Ordering::Relaxed);
        let came = Instant::now();
        let mut pauses = Vec::new();
        for result in tasks.join_all().await {
            match result {
                Ok(of_client) => pauses.extend(of_client),
                Err(failure) => *errors.entry(failure.to_string()).or_default() += 1,
            }
        }
        match first_token {
            Ok(time) => rounds.push(Round::of(&pauses, sent, came, time)),
            Err(failure) => *errors.entry(format!("the long prompt: {failure}")).or_default() += 1,
        }
    }
    if rounds.is_empty() {
        return Err(anyhow!("no long prompt was answered: {}", table::errors(&errors)));
    }
    Ok(Report { text: text(arguments, &rounds, &errors), failed: !errors.is_empty() })
}

/// Asks and asks again until it is enough, and then does not wait for the rest of its answer.
async fn keep_running(running: Arc<Running>, seen: watch::Sender<usize>) -> Result<Vec<Pause>, Failure> {
    let client = Client::builder().no_proxy().tcp_nodelay(true).build().map_err(|_| Failure::Connection)?;
    let mut pauses = Vec::new();
    while !running.enough.load(Ordering::Relaxed) {
        let number = running.prompt.fetch_add(1, Ordering::Relaxed);
        let prompt = running.prompts.prompt(number, running.prompt_tokens);
        let mut reading = Reading::open(&client, &running.server, &prompt, running.max_tokens).await?;
        let mut last = None;
        while let Some(now) = reading.piece().await? {
            seen.send_modify(|pieces| *pieces += 1);
            pauses.extend(last.map(|last| (last, now)));
            last = Some(now);
            if running.enough.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    Ok(pauses)
}

/// How long the first token of this prompt takes.
async fn first_token(server: &Server, prompt: &serde_json::Value) -> Result<Duration, Failure> {
    let client = Client::builder().no_proxy().build().map_err(|_| Failure::Connection)?;
    let start = Instant::now();
    let mut reading = Reading::open(&client, server, prompt, 1).await?;
    reading.piece().await?.map(|came| came.duration_since(start)).ok_or(Failure::Broken("no token".into()))
}

/// What one long prompt did, in milliseconds.
struct Round {
    before: Spread,
    beside: Spread,
    first_token_ms: f64,
}

impl Round {
    /// A pause counts as beside the long prompt when they have any moment in common.
    fn of(pauses: &[Pause], sent: Instant, came: Instant, first_token: Duration) -> Self {
        let spread = |chosen: &dyn Fn(&Pause) -> bool| {
            let chosen = pauses.iter().filter(|pause| chosen(pause));
            Spread::of(chosen.map(|(from, to)| milliseconds(to.duration_since(*from))))
        };
        Self {
            before: spread(&|&(_, to)| to <= sent),
            beside: spread(&|&(from, to)| to > sent && from < came),
            first_token_ms: milliseconds(first_token),
        }
    }
}

fn text(arguments: &Gap, rounds: &[Round], errors: &BTreeMap<String, usize>) -> String {
    let spread =
        |figure: fn(&Round) -> Spread| Spread::median(&rounds.iter().map(figure).collect::<Vec<_>>());
    let (before, beside) = (spread(|round| round.before), spread(|round| round.beside));
    let worst = rounds.iter().map(|round| round.beside.max).fold(0.0, f64::max);
    let first_token = median(rounds.iter().map(|round| round.first_token_ms));
    let Gap { url, clients, long_prompt, .. } = arguments;
    if arguments.asked.json {
        return json!({
            "url": url, "clients": clients, "long_prompt": long_prompt, "rounds": rounds.len(), "gap_before_ms": before,
            "gap_beside_ms": beside, "worst_gap_ms": worst, "long_first_token_ms": first_token, "errors": errors,
        })
        .to_string();
    }
    format!(
        "{url}: {clients} running ({}), a prompt of {long_prompt} tokens arrives; medians of {} rounds\n\
         gap ms      {:>7} {:>7} {:>7} {:>7}\n  before    {}\n  beside it {}\n\
         worst of all rounds {worst:.1} ms; first token of the long prompt after {first_token:.0} ms; errors: {}",
        table::asked(&arguments.asked),
        rounds.len(),
        "p50",
        "p95",
        "p99",
        "max",
        table::spread(before),
        table::spread(beside),
        table::errors(errors),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_belongs_to_the_long_prompt_when_they_overlap() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let pauses =
            [(at(0), at(10)), (at(10), at(40)), (at(40), at(55)), (at(55), at(300)), (at(300), at(900))];
        let round = Round::of(&pauses, at(30), at(250), Duration::from_millis(220));
        assert_eq!((round.before.max, round.beside.max, round.beside.p50), (10.0, 245.0, 30.0));
    }
}
