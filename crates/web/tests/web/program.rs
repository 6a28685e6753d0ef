//! The binary as a container runs it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
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
    let (child, _, address) = start_in(&[]);
    (child, address)
}

/// The same with variables; what it logs until it listens is in between.
fn start_in(variables: &[(&str, &str)]) -> (Child, String, String) {
    let mut child = program(&["--listen", "127.0.0.1:0"]).envs(variables.iter().copied()).spawn().unwrap();
    let mut log = String::new();
    let mut output = BufReader::new(child.stderr.as_mut().unwrap());
    while !log.contains("listening on http://") {
        assert_ne!(output.read_line(&mut log).unwrap(), 0, "{log}");
    }
    let (_, rest) = log.split_once("listening on http://").unwrap();
    let address = rest.split_whitespace().next().unwrap().to_owned();
    (child, log, address)
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

#[test]
fn a_service_link_in_the_environment_is_one_warning_and_no_obstacle() {
    let link = "tcp://10.0.0.7:8080";
    let (mut server, log, address) = start_in(&[("PORT", link), ("WEB_PORT", link), ("ENGINE_PORT", link)]);
    let variables = [("PORT", link)];
    let healthy = program(&["healthcheck", "--listen", &address]).envs(variables).status().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(healthy.success());
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert!(
        matches!(&warnings[..], [line] if line.contains("PORT=tcp://10.0.0.7:8080 is not a setting")),
        "{log}"
    );
}

#[test]
fn a_proxy_for_the_internet_is_not_used_for_the_neighbours() {
    let proxies = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY"].map(|name| (name, "http://127.0.0.1:9"));
    let all = ("ALL_PROXY", "socks5h://127.0.0.1:9");
    // The page's own server is the engine here: it answers to the same question.
    let (mut engine, engine_address) = start();
    let engine_url = format!("http://{engine_address}");
    let (mut server, _, address) = start_in(&[&proxies[..], &[all, ("ENGINE_URL", &engine_url)]].concat());
    let check = |address: &str| {
        let mut check = program(&["healthcheck", "--listen", address]);
        check.envs(proxies).envs([all]).status().unwrap().success()
    };
    let healthy = check(&address);
    let ready = get(&address, "/ready");
    for server in [&mut engine, &mut server] {
        server.kill().unwrap();
        server.wait().unwrap();
    }
    assert!(healthy);
    assert!(ready.starts_with("HTTP/1.0 200 ") && ready.ends_with(r#"{"engine":"ready"}"#), "{ready}");
}

#[test]
fn what_a_sign_in_adds_to_a_request_is_not_logged() {
    let (mut server, _, address) = start_in(&[("RUST_LOG", "trace")]);
    let secret =
        |bytes| format!("cookie: {}\r\nx-ms-token-aad-id-token: top-secret\r\n", "top-secret".repeat(bytes));
    for (headers, status) in [(secret(1000), "200"), (secret(5000), "431"), (secret(20_000), "431")] {
        let answer = exchange(&address, &format!("GET /health HTTP/1.0\r\n{headers}\r\n"));
        assert!(answer.contains(status), "{answer}");
    }
    server.kill().unwrap();
    let log = String::from_utf8(server.wait_with_output().unwrap().stderr).unwrap();
    assert!(!log.contains("top-secret"), "{log}");
}

fn get(address: &str, path: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.0\r\n\r\n"))
}

fn exchange(address: &str, request: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_server_on_all_addresses_is_asked_over_ipv4_which_every_container_has() {
    for (listening, asked) in [
        ("[::]:8080", "127.0.0.1:8080"),
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("[::1]:8080", "[::1]:8080"),
        ("192.0.2.1:80", "192.0.2.1:80"),
    ] {
        assert_eq!(bitnet_web::server::reachable(listening.parse().unwrap()), asked.parse().unwrap());
    }
}
