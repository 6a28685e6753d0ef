//! `chat`: a conversation in the terminal. Lines go in, the answer appears as it is generated,
//! and earlier turns are sent along.

use std::io::{BufRead, Write};

use anyhow::Result;
use bitnet_engine::chat_template::Message;
use bitnet_engine::engine::{Engine, Said};
use tokio::sync::mpsc;

const HELP: &str = "Ctrl-C stops an answer, Ctrl-D ends the program, /clear starts a new conversation.";

/// Talks until the input ends.
pub(crate) async fn run(engine: Engine, system: Option<String>) -> Result<()> {
    let system: Vec<_> = system.into_iter().map(|text| message("system", text)).collect();
    let mut conversation = system.clone();
    let mut lines = lines();
    println!("{HELP}");
    loop {
        print!("\n> ");
        std::io::stdout().flush()?;
        let line = tokio::select! {
            line = lines.recv() => line,
            _ = tokio::signal::ctrl_c() => None,
        };
        match line.as_deref().map(str::trim) {
            None => break,
            Some("") => {}
            Some("/clear") => conversation.clone_from(&system),
            Some(text) => {
                conversation.push(message("user", text.to_owned()));
                match answer(&engine, &conversation).await {
                    Ok(text) => conversation.push(message("assistant", text)),
                    Err(error) => {
                        eprintln!("{error:#}");
                        conversation.pop();
                    }
                }
            }
        }
    }
    println!();
    Ok(())
}

/// Prints the answer to the last message and returns it. Ctrl-C ends it early.
async fn answer(engine: &Engine, conversation: &[Message]) -> Result<String> {
    let mut answer = engine.answer(conversation)?;
    let mut text = String::new();
    loop {
        let said = tokio::select! {
            said = answer.next() => said?,
            _ = tokio::signal::ctrl_c() => {
                println!(" [stopped]");
                return Ok(text);
            }
        };
        match said {
            Said::Text(more) => {
                print!("{more}");
                std::io::stdout().flush()?;
                text.push_str(&more);
            }
            Said::End { cut_off } => {
                println!("{}", if cut_off { " [cut off by --n-predict or --ctx-size]" } else { "" });
                return Ok(text);
            }
        }
    }
}

/// Lines from a thread of their own: reading from a terminal cannot be interrupted.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn message(role: &str, content: String) -> Message {
    Message { role: role.to_owned(), content }
}
