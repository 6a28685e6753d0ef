//! `chat`: a conversation in the terminal. Lines go in, the answer appears as it is generated,
//! and earlier turns are sent along.

use std::io::{BufRead, Read, Write, stderr};

use anyhow::Result;
use bitnet_engine::chat_template::Message;
use bitnet_engine::engine::{Engine, Said};
use tokio::sync::mpsc;

use super::output::{Output, is_closed};

/// More than any context has room for; in bytes.
const LONGEST_LINE: u64 = 1 << 22;

const HELP: &str = "Ctrl-C stops an answer, Ctrl-D ends the program, /clear starts a new conversation.";

/// Talks until the input ends.
pub(crate) async fn run(engine: Engine, system: Option<String>) -> Result<()> {
    let system: Vec<_> = system.into_iter().map(|text| message("system", text)).collect();
    let mut conversation = system.clone();
    let mut lines = lines();
    writeln!(Output::new(), "{HELP}")?;
    loop {
        write(b"\n> ")?;
        let line = tokio::select! {
            line = lines.recv() => line,
            _ = tokio::signal::ctrl_c() => None,
        };
        match line.as_ref().map(|line| line.as_deref().map(str::trim)) {
            None => break,
            Some(Err(problem)) => say(problem),
            Some(Ok("")) => {}
            Some(Ok("/clear")) => conversation.clone_from(&system),
            Some(Ok(text)) => {
                conversation.push(message("user", text.to_owned()));
                match answer(&engine, &conversation).await {
                    Ok(text) => conversation.push(message("assistant", text)),
                    Err(error) if is_closed(&error) => return Err(error),
                    Err(error) => {
                        say(&format!("{error:#}"));
                        conversation.pop();
                    }
                }
            }
        }
    }
    write(b"\n")
}

/// Prints the answer to the last message and returns it. Ctrl-C ends it early.
async fn answer(engine: &Engine, conversation: &[Message]) -> Result<String> {
    let mut answer = engine.answer(conversation)?;
    let mut text = String::new();
    loop {
        let said = tokio::select! {
            said = answer.next() => said?,
            _ = tokio::signal::ctrl_c() => {
                write(b" [stopped]\n")?;
                return Ok(text);
            }
        };
        match said {
            Said::Text(more) => {
                write(more.as_bytes())?;
                text.push_str(&more);
            }
            Said::End { cut_off } => {
                write(if cut_off { b" [cut off by --n-predict or --ctx-size]\n" } else { b"\n" })?;
                return Ok(text);
            }
        }
    }
}

/// Prints without waiting for the end of a line.
fn write(bytes: &[u8]) -> Result<()> {
    let mut out = Output::new();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Tells what is wrong, to whoever listens.
fn say(problem: &str) {
    writeln!(stderr(), "{problem}").ok();
}

/// Lines from a thread of their own: reading from a terminal cannot be interrupted. What is no line of text is what is wrong
/// with it.
fn lines() -> mpsc::Receiver<Result<String, &'static str>> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        while let Some(line) = next_line(&mut input) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// `None` at the end of the input, or when it cannot be read.
fn next_line(input: &mut impl BufRead) -> Option<Result<String, &'static str>> {
    let mut bytes = Vec::new();
    input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes).ok()?;
    if bytes.is_empty() {
        return None;
    }
    if bytes.len() as u64 == LONGEST_LINE && !bytes.ends_with(b"\n") {
        input.skip_until(b'\n').ok()?;
        return Some(Err("that line is too long and is left out"));
    }
    Some(String::from_utf8(bytes).map_err(|_| "that line is not UTF-8 and is left out"))
}

fn message(role: &str, content: String) -> Message {
    Message { role: role.to_owned(), content }
}
