//! The program from the outside: arguments, environment, exit status, signals.

#![expect(clippy::unwrap_used, reason = "a helper that fails has to fail its test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/nano64/model-i2_s.gguf");

/// The program, with nothing from this process's environment that it would read.
fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet-engine"));
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("BITNET_") || name.starts_with("LLAMA_")) {
            command.env_remove(name);
        }
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn check(output: &Output, status: i32, part: &str) {
    let all = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{all}");
    assert!(all.contains(part), "{part:?} is not in {all}");
}

/// A server that does not outlive its test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts a server on a free port and waits until it is ready; returns the port.
fn serve(command: &mut Command) -> (Server, String) {
    let mut server = command.args(["--port", "0"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut port = String::new();
    for line in BufReader::new(server.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((_, address)) = line.split_once("address=127.0.0.1:") {
            address.split_whitespace().next().unwrap().clone_into(&mut port);
        }
        if line.ends_with(" ready") {
            break;
        }
    }
    (Server(server), port)
}

#[test]
fn seven_hundred_connections_that_ask_for_nothing_do_not_keep_out_who_asks() {
    let (_server, port) = serve(&mut program(&["-m", MODEL]));
    let connect = || TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    let mut idle = Vec::new();
    for index in 0..700 {
        let mut stream = connect();
        if index % 2 == 1 {
            stream.write_all(b"GET /health HTTP/1.1\r\nhost: local").unwrap();
        }
        idle.push(stream);
    }
    let mut client = connect();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    client.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer:?}");
}

#[test]
fn without_a_model_the_demo_runs_and_the_program_explains_how_to_get_a_real_one() {
    let output = program(&["chat"]).stdin(Stdio::null()).output().unwrap();
    check(&output, 0, "microsoft/bitnet-b1.58-2B-4T-gguf");
    check(&program(&["inspect", "demo"]).output().unwrap(), 0, "bitnet-b1.58");
}

#[test]
fn a_model_that_is_not_there_is_an_error_that_names_it() {
    for arguments in [&["-m", "/no/such.gguf", "--port", "0"][..], &["inspect", "/no/such.gguf"]] {
        check(&program(arguments).output().unwrap(), 1, "/no/such.gguf");
    }
}

#[test]
fn mistakes_in_the_command_line_end_with_2() {
    check(&program(&["--temp", "3000"]).output().unwrap(), 2, "--temp");
    check(&program(&["dance"]).output().unwrap(), 2, "dance");
    check(&program(&["--help"]).output().unwrap(), 0, "BITNET_CTX_SIZE or LLAMA_ARG_CTX_SIZE");
}

#[test]
fn the_environment_counts_ours_before_llama_servers_and_flags_before_both() {
    let error = |variables: &[(&str, &str)], arguments: &[&str]| {
        let output = program(arguments).arg("serve").envs(variables.iter().copied()).output().unwrap();
        text(&output.stderr)
    };
    let theirs = ("LLAMA_ARG_MODEL", "/theirs.gguf");
    let ours = ("BITNET_MODEL", "/ours.gguf");
    let port = ("BITNET_PORT", "0");
    assert!(error(&[theirs, port], &[]).contains("/theirs.gguf"));
    assert!(error(&[theirs, ours, port], &[]).contains("/ours.gguf"));
    assert!(error(&[theirs, ours, port], &["-m", "/flag.gguf"]).contains("/flag.gguf"));
    assert!(
        error(&[theirs, ("BITNET_MODEL", ""), port], &[]).contains("/theirs.gguf"),
        "empty counts as not set"
    );
    assert!(error(&[("LLAMA_ARG_CTX_SIZE", "many")], &[]).contains("--ctx-size"));
}

#[test]
fn a_port_in_use_is_explained() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = program(&["-m", MODEL, "--port", &port]).output().unwrap();
    check(&output, 1, "in use");
    check(&output, 1, "Ollama");
}

#[test]
fn healthcheck_tells_by_its_exit_status() {
    let (server, port) = serve(&mut program(&["-m", MODEL]));
    check(&program(&["healthcheck", "--port", &port]).output().unwrap(), 0, "200");
    check(&program(&["healthcheck", "--host", "0.0.0.0", "--port", &port]).output().unwrap(), 0, "200");
    drop(server);
    check(&program(&["healthcheck", "--port", &port]).output().unwrap(), 1, &port);
}

#[test]
fn a_log_for_machines_is_json_and_says_nothing_of_what_was_asked() {
    let arguments = ["-m", MODEL, "--port", "0", "--log-format", "json", "--log-level", "debug"];
    let mut server = Server(program(&arguments).stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(server.0.stderr.take().unwrap()).lines().map(|line| {
        let line = line.unwrap();
        assert!(!line.contains("secret"), "{line}");
        let object: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        assert!(object["timestamp"].is_string() && object["level"].is_string(), "{line}");
        object
    });
    let listening = log.find(|line| line["message"] == "listening").unwrap();
    assert!(log.any(|line| line["message"] == "ready"));

    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let body = r#"{"prompt": "a secret story", "n_predict": 2, "ignore_eos": true}"#;
    let head = format!(
        "POST /completion?secret=query HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-request-id: call-17\r\n\
         traceparent: 00-{trace}-00f067aa0ba902b7-01\r\nx-header: secret\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut client = TcpStream::connect(listening["address"].as_str().unwrap()).unwrap();
    client.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-request-id: call-17"), "{answer}");

    let pid = server.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let lines: Vec<_> = log.collect();
    let about = |message: &str| lines.iter().find(|line| line["message"] == message).unwrap();
    let (answered, request) = (about("answered"), about("request"));
    for line in [answered, request] {
        assert_eq!(
            (&line["span"]["id"], &line["span"]["trace"]),
            (&"call-17".into(), &trace.into()),
            "{line}"
        );
    }
    assert_eq!((&request["method"], &request["path"]), (&"POST".into(), &"/completion".into()));
    assert_eq!((&request["status"], &request["level"]), (&200.into(), &"INFO".into()));
    assert!(request["seconds"].as_f64().unwrap() > 0.0, "{request}");
    assert!(lines.iter().any(|line| line["message"] == "stopped"));
}

#[test]
fn a_start_says_whether_its_prompt_was_computed_or_restored_and_nothing_of_what_it_is() {
    let folder = Folder::new("warm");
    std::fs::write(folder.file("file"), "").unwrap();
    let start = |below: &str| {
        let arguments = [
            "-m",
            MODEL,
            "--port",
            "0",
            "--warm-prompt",
            "a secret story",
            "--warm-dir",
            &folder.file(below),
        ];
        let mut server = Server(program(&arguments).stderr(Stdio::piped()).spawn().unwrap());
        let lines = BufReader::new(server.0.stderr.take().unwrap()).lines().map(Result::unwrap);
        let log: Vec<_> = lines.take_while(|line| !line.ends_with(" ready")).collect();
        assert!(!log.iter().any(|line| line.contains("secret")), "{log:?}");
        log.into_iter().filter(|line| line.contains("warm prompt")).collect::<Vec<_>>()
    };
    for (below, expected) in [
        ("pages", &["warm prompt computed"][..]),
        ("pages", &["warm prompt restored"]),
        ("file/pages", &["warm prompt computed", "the warm prompt cannot be kept"]),
    ] {
        let log = start(below);
        assert_eq!(log.len(), expected.len(), "{log:?}");
        assert!(log.iter().zip(expected).all(|(line, part)| line.contains(part)), "{log:?}");
    }
}

#[test]
fn signals_end_the_server_in_order() {
    for signal in ["-TERM", "-INT"] {
        let (mut server, _) = serve(&mut program(&["-m", MODEL]));
        let pid = server.0.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert_eq!(server.0.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn inspect_shows_the_file_and_its_use() {
    let output = program(&["inspect", MODEL]).output().unwrap();
    for part in ["general.architecture", "bitnet-b1.58", "token_embd.weight", "<|eot_id|>", "Assistant: "] {
        check(&output, 0, part);
    }
    check(
        &program(&["inspect", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]).output().unwrap(),
        1,
        "GGUF",
    );
}

#[test]
fn bench_says_what_share_of_its_own_limit_each_stage_reaches_at_each_depth() {
    let bench = |more: &[&str]| {
        let mut bench = program(&["bench", "-m", MODEL, "-p", "16", "-g", "4", "-d", "0,130", "-r", "1"]);
        bench.args(more).output().unwrap()
    };
    let shown = bench(&["--profile"]);
    for part in ["depth 0 ", "depth 130 ", "% of ", "G multiply-adds/s", "G f32 multiply-adds/s", "GB/s read"]
    {
        check(&shown, 0, part);
    }

    let json: serde_json::Value = serde_json::from_slice(&bench(&["--json"]).stdout).unwrap();
    let resources = |speed: &serde_json::Value| -> Vec<(String, String)> {
        let limited = speed["stages"].as_array().unwrap().iter().filter(|stage| !stage["limit"].is_null());
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        limited
            .inspect(|stage| assert!(stage["limit"]["share"].as_f64().unwrap() > 0.0, "{stage}"))
            .map(|stage| (text(&stage["stage"]), text(&stage["limit"]["resource"])))
            .collect()
    };
    let expected = |limits: &[(&str, &str)]| -> Vec<(String, String)> {
        limits.iter().map(|&(stage, resource)| (stage.to_owned(), resource.to_owned())).collect()
    };
    assert_eq!(
        resources(&json["prefill"]),
        expected(&[
            ("qkv", "multiply_adds"),
            ("attention", "float_multiply_adds"),
            ("attention output", "multiply_adds"),
            ("gate and up", "multiply_adds"),
            ("down", "multiply_adds"),
        ])
    );
    for decode in json["decode"].as_array().unwrap() {
        let stages = ["qkv", "attention", "attention output", "gate and up", "down", "head"];
        assert_eq!(resources(decode), expected(&stages.map(|stage| (stage, "bytes"))));
    }
}

#[test]
fn chat_answers_every_line_until_the_input_ends() {
    let mut chat = program(&["chat", "-m", MODEL, "-n", "3", "--temp", "0", "-c", "64"]);
    let mut chat = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let long = "many words ".repeat(50);
    write!(chat.stdin.take().unwrap(), "Hello\n\nAnd then?\n{long}\n/clear\nHello\n").unwrap();
    let output = chat.wait_with_output().unwrap();
    check(&output, 0, "Ctrl-C");
    check(&output, 0, "too long");
    let shown = text(&output.stdout);
    let answers: Vec<_> = shown.split("\n> ").collect();
    assert_eq!(answers[1], answers[6], "a new conversation begins like the first: {shown}");
}

#[test]
fn bench_names_the_head_and_says_how_many_tokens_it_changes() {
    let arguments = ["bench", "-m", MODEL, "-p", "4", "-g", "4", "-r", "1", "--agreement", "8", "--head"];
    for head in ["exact", "q8", "q4"] {
        let output = program(&arguments).arg(head).output().unwrap();
        check(&output, 0, &format!("{head} head; loaded"));
        check(&output, 0, "after the same state");
    }
    check(&program(&["--head", "q5"]).output().unwrap(), 2, "--head");
    check(&program(&["--help"]).output().unwrap(), 0, "8 bits only, lossy");
}

/// A folder that is gone after its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bitnet-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// What a program says that has to end by itself, long before a minute is over.
#[track_caller]
fn ended(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("it does not end");
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

#[test]
fn an_output_that_nobody_reads_ends_every_command_quietly_and_well() {
    let folder = Folder::new("closed");
    let downloaded = folder.file("o/r/main");
    std::fs::create_dir_all(&downloaded).unwrap();
    std::fs::copy(MODEL, downloaded + "/f.gguf").unwrap();
    let (server, port) = serve(&mut program(&["-m", MODEL]));
    for arguments in [
        &["inspect", MODEL][..],
        &["pull", "hf:o/r/f.gguf", "--model-dir", &folder.file("")],
        &["chat", "-m", MODEL, "-n", "3", "-c", "64"],
        &["bench", "-m", MODEL, "-p", "4", "-g", "4", "-r", "1"],
        &["healthcheck", "--port", &port],
    ] {
        let mut command = program(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.env("BITNET_LOG_LEVEL", "error").spawn().unwrap();
        // The reader goes before the program has written anything.
        drop(child.stdout.take());
        child.stdin.take().unwrap().write_all(b"Hello\n").ok();
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() && errors.is_empty(), "{arguments:?}: {status}: {errors}");
    }
    drop(server);
}

#[test]
fn chat_says_what_is_wrong_with_a_line_and_goes_on() {
    let mut chat = program(&["chat", "-m", MODEL, "-n", "3", "--temp", "0", "-c", "64"]);
    let mut chat = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = chat.stdin.take().unwrap();
    thread::spawn(move || {
        input.write_all(b"Hello\n/clear\ncaf\xe9\n").unwrap();
        input.write_all(&b"x".repeat(9_000_000)).unwrap();
        input.write_all(b"\nHello\n").unwrap();
    });
    let output = chat.wait_with_output().unwrap();
    check(&output, 0, "not UTF-8");
    check(&output, 0, "too long and is left out");
    let shown = text(&output.stdout);
    let answers: Vec<_> = shown.split("\n> ").collect();
    assert_eq!(answers[1], answers[5], "the last line is answered like the first: {shown}");
}

/// What `healthcheck` makes of a server that sends this, piece by piece with half a second between, and then closes.
fn health_of(pieces: Vec<Vec<u8>>) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    thread::spawn(move || {
        let send = |mut stream: TcpStream| {
            for piece in &pieces {
                stream.write_all(piece).ok();
                thread::sleep(Duration::from_millis(if pieces.len() > 1 { 500 } else { 0 }));
            }
        };
        listener.incoming().for_each(|stream| send(stream.unwrap()));
    });
    ended(&mut program(&["healthcheck", "--host", "127.0.0.1", "--port", &port]))
}

#[test]
fn healthcheck_has_a_deadline_that_no_server_can_stretch() {
    let started = Instant::now();
    check(&health_of(vec![b"x".to_vec(); 100]), 1, "within 3 s");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn healthcheck_takes_a_whole_line_with_status_200_and_nothing_else_for_ready() {
    for (answer, status) in [
        (&b"HTTP/1.1 200 OK\r\n\r\n"[..], 0),
        (b"HTTP/1.0 200\r\n", 0),
        (b"HTTP/1.1 200 O", 1),
        (b"", 1),
        (b"HTTP/1.1 503 no 200 yet\r\n\r\n", 1),
        (b"SSH-2.0 200 \r\n", 1),
        (b"\xff 200 \r\n", 1),
    ] {
        let output = health_of(vec![answer.to_vec()]);
        assert_eq!(output.status.code(), Some(status), "{:?}: {output:?}", String::from_utf8_lossy(answer));
    }
}

#[test]
fn healthcheck_asks_whether_requests_are_taken_or_with_live_whether_it_lives() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    // As an engine that loads.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            let status = if line.starts_with("GET /livez ") { "200" } else { "503" };
            assert!(status == "200" || line.starts_with("GET /readyz "), "{line}");
            stream.write_all(format!("HTTP/1.1 {status} X\r\n\r\n").as_bytes()).unwrap();
        }
    });
    let healthcheck = ["healthcheck", "--host", "127.0.0.1", "--port", &port];
    check(&program(&healthcheck).output().unwrap(), 1, "503");
    check(&program(&[&healthcheck[..], &["--live"]].concat()).output().unwrap(), 0, "200");
}

#[test]
fn what_is_no_file_is_an_error_that_says_what_it_is() {
    let folder = Folder::new("kinds");
    let pipe = folder.file("pipe.gguf");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let socket = folder.file("socket.gguf");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, what) in [(pipe.as_str(), "a pipe"), ("/dev/zero", "a device"), (&socket, "a socket")] {
        for arguments in [&["inspect", path][..], &["-m", path, "--port", "0"], &["bench", "-m", path]] {
            let output = ended(&mut program(arguments));
            check(&output, 1, what);
            check(&output, 1, path);
        }
    }
    check(&ended(&mut program(&["--chat-template-file", "/dev/zero", "inspect", "demo"])), 2, "bytes");
}

#[test]
fn a_setting_that_cannot_work_is_refused_but_a_variable_without_a_value_is_not_set() {
    let output = program(&["--api-key", ""]).output().unwrap();
    check(&output, 2, "--api-key");
    let output = program(&["inspect", "demo"]).env("BITNET_API_KEY", "one,two secret\n").output().unwrap();
    check(&output, 2, "BITNET_API_KEY");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"), "{output:?}");
    check(
        &program(&["inspect", "demo"]).env("BITNET_API_KEY", "one, two\n").output().unwrap(),
        0,
        "bitnet-b1.58",
    );
    let inspect = |variable: &str| program(&["inspect", "demo"]).env(variable, "").output().unwrap();
    for variable in ["BITNET_API_KEY", "LLAMA_API_KEY", "BITNET_MODEL", "BITNET_CORS_ORIGINS", "HF_TOKEN"] {
        check(&inspect(variable), 0, "bitnet-b1.58");
    }
    check(&program(&["inspect", ""]).output().unwrap(), 2, "must name a model");
}
