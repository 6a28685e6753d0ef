//! The binary as a container runs it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet-web"));
    command.args(arguments).env_remove("RUST_LOG").stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = program(arguments).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// Starts the server on a free port and returns it with its address.
fn start() -> (Child, String) {
    let mut child = program(&["--listen", "127.0.0.1:0"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    let (_, rest) = line.split_once("listening on http://").unwrap();
    let address = rest.split_whitespace().next().unwrap().to_owned();
    (child, address)
}

#[test]
#[cfg(unix)]
fn a_healthy_server_stops_with_success_when_it_is_asked_to() {
    let (mut server, address) = start();
    assert_eq!(run(&["healthcheck", "--listen", &address]), (Some(0), String::new()));

    Command::new("kill").args(["-TERM", &server.id().to_string()]).status().unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0));
    let (code, message) = run(&["healthcheck", "--listen", &address]);
    assert_eq!(code, Some(1));
    assert!(message.contains("does not answer"), "{message}");
}

#[test]
fn a_port_in_use_is_an_error_that_says_what_to_do() {
    let (mut server, address) = start();
    let (code, message) = run(&["--listen", &address]);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(code, Some(1));
    assert!(message.contains("in use") && message.contains("--listen"), "{message}");
}

#[test]
fn a_bad_setting_is_named() {
    let (code, message) = run(&["--engine-url", "engine:11434"]);
    assert_eq!(code, Some(2));
    assert!(message.contains("--engine-url") && message.contains("http"), "{message}");
}
