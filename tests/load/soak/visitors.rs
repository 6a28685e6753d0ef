//! Who comes: each kind does one thing, and knows which answers are right.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::checks::samples;
use super::world::World;
use super::{garbage, raw};
use crate::prompts::Prompts;
use crate::random::Random;

/// Longer than a minute, after which the engine gives up a client that takes nothing.
const DEAF: Duration = Duration::from_secs(75);
/// How long a slow reader stays.
const SLOW: Duration = Duration::from_secs(20);
/// Requests of a burst: more than the engine takes.
const BURST: usize = 40;

const ANSWERED: &str = "answered";
const REFUSED: &str = "told to come back";
const LEFT: &str = "left";

/// A kind of visitor.
pub(super) struct Kind {
    name: &'static str,
    pub(super) at_once: usize,
    /// Between one visit and the next, at most.
    pause: Duration,
    visit: fn(Arc<World>, Random) -> Visiting,
}

type Outcome = Result<&'static str>;
type Visiting = Pin<Box<dyn Future<Output = Outcome> + Send>>;

pub(super) struct Visit {
    pub(super) kind: &'static str,
    pub(super) outcome: Outcome,
}

pub(super) const KINDS: [Kind; 9] = [
    Kind { name: "chats", at_once: 3, pause: Duration::from_millis(50), visit: |w, r| Box::pin(chat(w, r)) },
    Kind { name: "seeded", at_once: 1, pause: Duration::from_millis(100), visit: |w, _| Box::pin(seeded(w)) },
    Kind {
        name: "leavers",
        at_once: 3,
        pause: Duration::from_millis(20),
        visit: |w, r| Box::pin(leave(w, r)),
    },
    Kind {
        name: "slow readers",
        at_once: 2,
        pause: Duration::from_millis(500),
        visit: |w, r| Box::pin(read_slowly(w, r)),
    },
    Kind { name: "deaf", at_once: 2, pause: Duration::ZERO, visit: |w, r| Box::pin(read_nothing(w, r)) },
    Kind {
        name: "garbage",
        at_once: 2,
        pause: Duration::from_millis(50),
        visit: |w, r| Box::pin(send_garbage(w, r)),
    },
    Kind {
        name: "too long",
        at_once: 1,
        pause: Duration::from_millis(200),
        visit: |w, r| Box::pin(ask_too_much(w, r)),
    },
    Kind {
        name: "scrapes",
        at_once: 1,
        pause: Duration::from_millis(200),
        visit: |w, _| Box::pin(scrape(w)),
    },
    Kind { name: "bursts", at_once: 1, pause: Duration::from_secs(4), visit: |w, r| Box::pin(burst(w, r)) },
];

/// Visits of one kind, one after the other, until it is time.
pub(super) async fn come_and_go(world: Arc<World>, kind: &'static Kind, number: u64) -> Vec<Visit> {
    let mut random = Random::new(number << 40);
    let mut visits = Vec::new();
    while Instant::now() < world.until {
        let outcome = (kind.visit)(Arc::clone(&world), Random::new(random.next())).await;
        visits.push(Visit { kind: kind.name, outcome });
        let pause = random.next() % (kind.pause.as_millis() as u64 + 1);
        sleep(world.at_most(Duration::from_millis(pause))).await;
    }
    visits
}

/// An answer that must be complete, as a whole or streamed.
async fn chat(world: Arc<World>, mut random: Random) -> Outcome {
    let text = Prompts::Words.prompt(random.next(), 12);
    let stream = !random.next().is_multiple_of(3);
    let messages = json!([{"role": "user", "content": text}]);
    let body = json!({"messages": messages, "max_tokens": 40, "stream": stream});
    let Some(response) = world.ask("/v1/chat/completions", &body).await? else { return Ok(REFUSED) };
    let text = response.text().await.context("the answer breaks off")?;
    ensure!(is_whole(&text, stream), "no whole answer: {text}");
    Ok(ANSWERED)
}

/// Whether OpenAI's protocol was kept to the end: no error, a reason to finish, and of a stream the mark of its end.
fn is_whole(text: &str, stream: bool) -> bool {
    let mut parts: Vec<_> = if stream {
        text.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
    } else {
        vec![text]
    };
    if stream && parts.pop() != Some("[DONE]") {
        return false;
    }
    let mut reason = Value::Null;
    for part in parts {
        let Ok(part) = serde_json::from_str::<Value>(part) else { return false };
        if part.get("error").is_some() {
            return false;
        }
        let last = part["choices"][0]["finish_reason"].clone();
        reason = if last.is_null() { reason } else { last };
    }
    reason == "stop" || reason == "length"
}

/// The same question in the middle of everything else: the same answer.
async fn seeded(world: Arc<World>) -> Outcome {
    match world.same_answer().await {
        Ok(_) => Ok(ANSWERED),
        Err(error) if error.to_string().starts_with("429 ") => Ok(REFUSED),
        Err(error) => Err(error),
    }
}

/// Goes after some bytes of the answer, or before there are any.
async fn leave(world: Arc<World>, mut random: Random) -> Outcome {
    let prompt = world.prompts.prompt(random.next(), 32);
    let body = json!({"prompt": prompt, "n_predict": world.context - 64, "ignore_eos": true, "stream": true});
    let patience = Duration::from_millis(random.next() % 300);
    let read = async {
        let Some(mut response) = world.ask("/completion", &body).await? else { return Ok(REFUSED) };
        while response.chunk().await.context("the answer breaks off")?.is_some() {}
        Ok(ANSWERED)
    };
    timeout(patience, read).await.unwrap_or(Ok(LEFT))
}

/// A byte a second.
async fn read_slowly(world: Arc<World>, mut random: Random) -> Outcome {
    let mut connection = raw::connect(world.address).await?;
    connection.write_all(&world.wordy(&mut random)).await.context("the request is not taken")?;
    let reading = async {
        let mut head = Vec::new();
        // A refusal is read at once, so that there is time for an answer.
        while head.len() < 12 {
            head.push(connection.read_u8().await.context("no answer")?);
        }
        match &head[9..] {
            b"200" => {}
            b"429" | b"503" => return Ok(REFUSED),
            _ => bail!("{}", String::from_utf8_lossy(&head)),
        }
        loop {
            sleep(Duration::from_secs(1)).await;
            connection.read_u8().await.context("a slow reader is cut off")?;
        }
    };
    timeout(world.at_most(SLOW), reading).await.unwrap_or(Ok(LEFT))
}

/// Sends a request and takes nothing of the answer.
async fn read_nothing(world: Arc<World>, mut random: Random) -> Outcome {
    let mut connection = raw::connect(world.address).await?;
    connection.write_all(&world.wordy(&mut random)).await.context("the request is not taken")?;
    sleep(world.at_most(DEAF)).await;
    Ok(LEFT)
}

/// Something of the table, or a request of which the second half never comes.
async fn send_garbage(world: Arc<World>, mut random: Random) -> Outcome {
    let all = garbage::all();
    if random.next().is_multiple_of(8) {
        let (bytes, _) = random.choose(&all);
        let mut connection = raw::connect(world.address).await?;
        let _ = connection.write_all(&bytes[..bytes.len() / 2]).await;
        return Ok(LEFT);
    }
    let (bytes, right) = random.choose(&all);
    let status = raw::status(world.address, bytes).await?;
    let beginning = String::from_utf8_lossy(&bytes[..bytes.len().min(160)]).into_owned();
    ensure!(right.contains(&status) || status == Some(503), "{status:?} for {beginning}");
    Ok("refused")
}

/// A prompt that does not fit, of which the answer tells by how much.
async fn ask_too_much(world: Arc<World>, mut random: Random) -> Outcome {
    let prompt = world.prompts.prompt(random.next(), world.context + 1 + random.next() as usize % 1000);
    let response = world
        .client
        .post(format!("{}/completion", world.url))
        .json(&json!({"prompt": prompt}))
        .send()
        .await?;
    let (status, body) = (response.status().as_u16(), response.json::<Value>().await?);
    if status == 503 {
        return Ok(REFUSED);
    }
    let error = &body["error"];
    ensure!(
        status == 400 && error["n_ctx"] == world.context && error["n_prompt_tokens"].is_u64(),
        "{status} {body}"
    );
    Ok("refused")
}

/// What a monitor reads.
async fn scrape(world: Arc<World>) -> Outcome {
    let (status, body) = world.get("/health").await?;
    ensure!(status == 200, "/health: {status} {body}");
    for path in ["/slots", "/props", "/v1/models"] {
        let (status, body) = world.get(path).await?;
        let is_json = serde_json::from_str::<Value>(&body).is_ok();
        ensure!(is_json && (status == 200 || status == 503), "{path}: {status} {body}");
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        let (status, body) = world.get(path).await?;
        ensure!(status == 200 || status == 404, "{path}: {status} {body}");
        if status == 200 && path == "/metrics" {
            samples(&body)?;
        }
    }
    Ok(ANSWERED)
}

/// Many at once: each is answered, or told when to come back.
async fn burst(world: Arc<World>, mut random: Random) -> Outcome {
    let mut requests = JoinSet::new();
    for _ in 0..BURST {
        let (world, prompt) = (Arc::clone(&world), world.prompts.prompt(random.next(), 8));
        requests.spawn(async move {
            let body = json!({"prompt": prompt, "max_tokens": 4, "ignore_eos": true});
            let Some(response) = world.ask("/v1/completions", &body).await? else { return Ok(false) };
            let answer: Value = response.json().await?;
            ensure!(answer["usage"]["completion_tokens"] == 4, "{answer}");
            Ok(true)
        });
    }
    let answers = requests.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(if answers.contains(&false) { "answered in part, the rest told to come back" } else { ANSWERED })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_a_reason_and_an_end_whatever_it_says() {
        let piece = r#"data: {"choices":[{"delta":{"content":"error"},"finish_reason":null}]}"#;
        let last = r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        let usage = r#"data: {"choices":[],"usage":{}}"#;
        let failed = r#"data: {"error":{"message":"a"}}"#;
        let stream = |lines: &[&str]| is_whole(&format!("{}\n\n", lines.join("\n\n")), true);
        assert!(stream(&[piece, last, usage, ": ping", "data: [DONE]"]));
        assert!(!stream(&[piece, last]));
        assert!(!stream(&[piece, "data: [DONE]"]));
        assert!(!stream(&[piece, last, failed, "data: [DONE]"]));
        assert!(is_whole(r#"{"choices":[{"finish_reason":"length"}]}"#, false));
        assert!(!is_whole(r#"{"choices":[{"finish_reason":"leng"#, false));
    }
}
