//! What a body of a few megabytes can cost: three of each kind at once, the worst that is known, beside somebody who asks for the
//! server's health.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/nano64/model-i2_s.gguf");

/// Just under the size that is taken.
const BYTES: usize = (4 << 20) - 1000;
const AT_ONCE: usize = 3;
/// Of the whole process.
const MEMORY: u64 = 400 << 20;

struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_bitnet-engine"))
            .args(["-m", MODEL, "--host", "127.0.0.1", "--port", "0", "--log-level", "info"])
            .env_clear()
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut address = String::new();
        for line in log.by_ref() {
            let line = line.unwrap();
            if let Some((_, found)) = line.split_once("listening address=") {
                found.clone_into(&mut address);
            }
            if line.ends_with("ready") {
                break;
            }
        }
        thread::spawn(move || log.for_each(drop));
        Self { process, address }
    }

    /// The status of an answer, which is read to its end.
    fn ask(&self, head: &str, body: &[u8]) -> u16 {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        // Only so that a failure does not hang.
        stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
        let length = body.len();
        write!(
            stream,
            "{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        )
        .unwrap();
        stream.write_all(body).unwrap();
        let (mut answer, mut part) = (Vec::new(), [0; 1 << 13]);
        loop {
            match stream.read(&mut part).unwrap() {
                0 => break,
                // Some answers have a hundred megabytes, and this program is not what is tested.
                read => answer.extend_from_slice(&part[..read.min(1024usize.saturating_sub(answer.len()))]),
            }
        }
        String::from_utf8_lossy(&answer)["HTTP/1.1 ".len()..][..3].parse().unwrap()
    }

    /// The most memory that the process ever had.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// `before`, then `unit` as often as there is room, then `after`.
fn filled(before: &str, unit: &str, after: &str) -> Vec<u8> {
    let count = (BYTES - before.len() - after.len()) / unit.len();
    [before, &unit.repeat(count), after].concat().into_bytes()
}

#[test]
fn no_body_of_a_few_megabytes_costs_a_hundred_times_its_size() {
    const CHAT: &str = "POST /v1/chat/completions";
    const COMPLETION: &str = "POST /completion";
    let message = r#""messages":[{"role":"user","content":"Hi"}],"max_tokens":1"#;
    let kinds = [
        ("POST /tokenize", filled(r#"{"with_pieces":true,"content":""#, "1a", r#""}"#), 200),
        ("POST /tokenize", filled(r#"{"content":""#, "a", r#""}"#), 200),
        ("POST /detokenize", filled(r#"{"tokens":[1"#, ",1", "]}"), 200),
        (CHAT, filled(&format!("{{{message},\"x\":[{{}}"), ",{}", "]}"), 200),
        (CHAT, filled(&format!("{{{message},\"x\":{{\"a\":0"), ",\"a\":0", "}}"), 200),
        (CHAT, filled(r#"{"messages":[{}"#, ",{}", "]}"), 400),
        (
            CHAT,
            filled(
                r#"{"messages":[{"role":"user","content":[{"type":"text","text":""}"#,
                r#",{"type":"text","text":""}"#,
                "]}]}",
            ),
            200,
        ),
        (CHAT, filled(r#"{"messages":[{"role":"user","content":""#, "word ", r#""}]}"#), 400),
        (CHAT, filled(&format!("{{{message},\"logit_bias\":{{\""), "1a", "\":1}}"), 400),
        (CHAT, filled(&format!("{{{message},\"logit_bias\":[[1,1]"), ",[1,1]", "]}"), 400),
        (CHAT, filled(&format!("{{{message},\"stop\":[\"\""), ",\"\"", "]}"), 200),
        (CHAT, filled(&format!("{{{message},\"tools\":[{{}}"), ",{}", "]}"), 400),
        (COMPLETION, filled(r#"{"prompt":[1,"""#, r#","""#, "]}"), 200),
        (COMPLETION, filled(r#"{"prompt":[1"#, ",1", "]}"), 400),
    ];
    let server = Server::start();
    for (head, body, expected) in &kinds {
        thread::scope(|scope| {
            let asked: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(|| server.ask(head, body))).collect();
            assert_eq!(server.ask("GET /health", b""), 200, "beside {head}");
            for asked in asked {
                let beginning = String::from_utf8_lossy(&body[..80]);
                assert_eq!(asked.join().unwrap(), *expected, "{head} {beginning}");
            }
        });
        let peak = server.peak();
        println!("{:>4} MB after {head} {}", peak >> 20, String::from_utf8_lossy(&body[..60]));
        assert!(peak < MEMORY, "{} MB after {head}", peak >> 20);
    }
}

#[test]
fn answers_that_nobody_reads_wait_in_bounded_memory() {
    let server = Server::start();
    let body = filled(r#"{"content":""#, "1a", r#""}"#);
    let mut unread = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let length = body.len();
        write!(stream, "POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n")
            .unwrap();
        // What finds no room is refused, and not read to its end.
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        stream.write_all(&body).ok();
        unread.push(stream);
    }
    assert_eq!(server.ask("GET /health", b""), 200);
    let peak = server.peak();
    assert!(peak < MEMORY, "{} MB", peak >> 20);
    drop(unread);
    // Everything they had is free again.
    while server.ask("POST /tokenize", &body) != 200 {
        thread::sleep(Duration::from_millis(100));
    }
}
