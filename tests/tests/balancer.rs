//! Three engines behind a real haproxy with the configuration of `deploy/haproxy`: one may die or drain, and readers of the others do not notice.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{Program, Server, engine, engine_on_port, get, post, within};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

const PATH: &str = "/v1/completions";

#[tokio::test]
async fn an_engine_that_dies_takes_only_its_own_answers_along_and_comes_back() {
    let Some(haproxy) = haproxy() else { return };
    let [first, second, third] = engines().await;
    let balancer = Haproxy::before(&haproxy, [&first, &second, &third], ROOM).await;
    let expected = whole(&second.url).await;
    let streams = three_streams(&balancer, [&first, &second, &third]).await;

    let port = first.port().to_owned();
    drop(first);
    for number in 0..10 {
        let reply = post(&format!("{}{PATH}", balancer.url), json!({"prompt": "The", "max_tokens": 1})).await;
        assert_eq!(reply.status, 200, "request {number} after the death of an engine: {reply:?}");
    }
    let mut texts: Vec<_> = within("the streams", streams.join_all()).await;
    texts.sort();
    let broken = texts.iter().filter(|text| text.is_none()).count();
    assert_eq!(broken, 1, "one engine of three is dead");
    for text in texts.into_iter().flatten() {
        assert_eq!(text, expected);
    }

    let first = engine_on_port(&port, &SLOW).await;
    let back = async {
        while balancer.servers_up().await != 3 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    within("the engine is used again", back).await;
    let streams = three_streams(&balancer, [&first, &second, &third]).await;
    let texts = within("the streams", streams.join_all()).await;
    assert_eq!(texts, [const { None::<String> }; 3].map(|_| Some(expected.clone())));
}

#[tokio::test]
async fn an_engine_that_drains_ends_its_answers_and_gets_no_new_ones() {
    let Some(haproxy) = haproxy() else { return };
    let mut engines = engines().await;
    let balancer = Haproxy::before(&haproxy, engines.each_ref(), ROOM).await;
    let expected = whole(&engines[0].url).await;
    let answer = tokio::spawn(rest(stream(&balancer.url).await));
    let mut busy = 0;
    while !is_busy(&engines[busy]).await {
        busy += 1;
    }
    engines[busy].program.terminate();
    for number in 0..10 {
        let reply = post(&format!("{}{PATH}", balancer.url), json!({"prompt": "The", "max_tokens": 1})).await;
        assert_eq!(reply.status, 200, "request {number} while an engine drains: {reply:?}");
    }
    assert!(!answer.is_finished(), "all that was during its answer");
    assert_eq!(within("the stream", answer).await.expect("it ended"), Some(expected));
    let (status, _) = engines[busy].program.ended().await;
    assert!(status.success(), "{status}");
}

/// With more room than an engine has slots, requests wait in it.
#[tokio::test]
async fn who_waits_in_an_engine_that_drains_is_told_or_goes_to_another() {
    let Some(haproxy) = haproxy() else { return };
    let [first, second, third] = engines().await;
    let balancer = Haproxy::before(&haproxy, [&first, &second, &third], ROOM + 3).await;
    let expected = whole(&second.url).await;
    let mut streams = three_streams(&balancer, [&first, &second, &third]).await;
    for _ in 0..3 {
        let response = stream(&balancer.url).await;
        streams.spawn(rest(response));
    }
    let mut not_streamed = JoinSet::new();
    for _ in 0..3 {
        let url = format!("{}{PATH}", balancer.url);
        not_streamed.spawn(async move { post(&url, json!({"prompt": "The", "max_tokens": 1})).await.status });
    }
    let two_wait_in_each = async {
        for engine in [&first, &second, &third] {
            while metric(engine, "llamacpp:requests_deferred").await != 2 {
                sleep(Duration::from_millis(5)).await;
            }
        }
    };
    within("two wait in each engine", two_wait_in_each).await;
    first.program.terminate();
    let mut texts = within("the streams", streams.join_all()).await;
    texts.retain(|text| text.as_ref() != Some(&expected));
    assert_eq!(texts, [Some("draining".to_owned())], "its answer has begun, so it cannot be repeated");
    let statuses = within("the answers", not_streamed.join_all()).await;
    assert_eq!(statuses, [200; 3], "another engine answers");
}

#[tokio::test]
async fn who_finds_all_engines_busy_waits_instead_of_being_refused() {
    let Some(haproxy) = haproxy() else { return };
    let engines = engines().await;
    let [first, second, third] = &engines;
    let balancer = Haproxy::before(&haproxy, [first, second, third], ROOM).await;
    let mut requests = JoinSet::new();
    for _ in 0..24 {
        let url = format!("{}{PATH}", balancer.url);
        requests.spawn(async move { post(&url, json!({"prompt": "The", "max_tokens": 16})).await.status });
    }
    let statuses = within("the answers", requests.join_all()).await;
    assert_eq!(statuses, [200; 24]);
    for engine in &engines {
        let ended = metric(engine, "bitnet_requests_total{outcome=\"length\"}").await;
        assert!(ended >= 4, "{} has answered {ended} of 24 requests", engine.url);
    }
}

#[tokio::test]
async fn who_leaves_behind_the_balancer_ends_the_engine_s_work() {
    let Some(haproxy) = haproxy() else { return };
    let [first, second, third] = engines().await;
    let balancer = Haproxy::before(&haproxy, [&first, &second, &third], ROOM).await;
    let mut response = stream(&balancer.url).await;
    response.chunk().await.expect("an answer").expect("a piece");
    drop(response);
    let free = async {
        for engine in [&first, &second, &third] {
            while is_busy(engine).await {
                sleep(Duration::from_millis(5)).await;
            }
        }
    };
    within("the engines are free", free).await;
    let mut cancelled = 0;
    for engine in [&first, &second, &third] {
        cancelled += metric(engine, "bitnet_requests_total{outcome=\"cancelled\"}").await;
    }
    assert_eq!(cancelled, 1);
}

#[tokio::test]
async fn the_balancer_is_ready_while_an_engine_is_and_tells_nothing_of_a_single_one() {
    let Some(haproxy) = haproxy() else { return };
    let [first, second, third] = engines().await;
    let balancer = Haproxy::before(&haproxy, [&first, &second, &third], ROOM).await;
    let status = async |path: &str| get(&format!("{}{path}", balancer.url)).await.status;
    assert_eq!((status("/readyz").await, status("/metrics").await, status("/slots").await), (200, 404, 404));
    assert_eq!(status("/v1/models").await, 200);
    drop((first, second, third));
    let noticed = async {
        while status("/readyz").await != 503 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    within("the balancer is not ready", noticed).await;
    let client = Client::builder().no_proxy().build().expect("a client");
    let response = client.get(format!("{}/v1/models", balancer.url)).send().await.expect("an answer");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"10".parse().expect("a value"))
    );
    assert_eq!(response.json::<Value>().await.expect("JSON")["error"]["code"], "no_engine");
}

/// One answer at a time, slow enough to do something during it, and three that wait.
const SLOW: [&str; 8] = ["--isa", "scalar", "--threads", "1", "--parallel", "1", "--queue", "3"];
/// As much room as it has slots: what `maxconn` should be.
const ROOM: usize = 1;

async fn engines() -> [Server; 3] {
    [engine(&SLOW).await, engine(&SLOW).await, engine(&SLOW).await]
}

/// The same answer from each engine.
fn long_request() -> Value {
    json!({"prompt": "The kettle", "temperature": 0, "max_tokens": 300, "ignore_eos": true, "stream": true})
}

async fn stream(url: &str) -> Response {
    let client = Client::builder().no_proxy().build().expect("a client");
    let request = client.post(format!("{url}{PATH}")).header("content-type", "application/json");
    let response =
        within("an answer", request.body(long_request().to_string()).send()).await.expect("an answer");
    assert_eq!(response.status(), 200);
    response
}

/// The text of the rest of an answer, or the code of the error with which it ends; none when it breaks off.
async fn rest(mut response: Response) -> Option<String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        body.extend_from_slice(&chunk);
    }
    let body = String::from_utf8(body).ok()?;
    let mut text = String::new();
    for data in body.lines().filter_map(|line| line.strip_prefix("data: ")) {
        if data == "[DONE]" {
            return Some(text);
        }
        let event: Value = serde_json::from_str(data).expect("JSON");
        text.push_str(event["choices"][0]["text"].as_str().unwrap_or_default());
        text.push_str(event["error"]["code"].as_str().unwrap_or_default());
    }
    None
}

async fn whole(url: &str) -> String {
    within("the answer", async { rest(stream(url).await).await }).await.expect("a whole answer")
}

async fn metric(engine: &Server, name: &str) -> u32 {
    let scrape = get(&format!("{}/metrics", engine.url)).await;
    let mut lines = scrape.body.as_str().expect("text").lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).expect("a whole number")
}

async fn is_busy(engine: &Server) -> bool {
    get(&format!("{}/slots", engine.url)).await.body[0]["is_processing"] == true
}

/// Three answers, and each engine is busy with one of them.
async fn three_streams(balancer: &Haproxy, engines: [&Server; 3]) -> JoinSet<Option<String>> {
    let mut streams = JoinSet::new();
    for _ in 0..3 {
        let response = stream(&balancer.url).await;
        streams.spawn(rest(response));
    }
    for engine in engines {
        assert!(is_busy(engine).await, "{} has nothing to do", engine.url);
    }
    streams
}

/// Where haproxy is; without it these tests are left out.
fn haproxy() -> Option<OsString> {
    let program = env::var_os("BITNET_HAPROXY");
    if program.is_none() {
        assert!(env::var_os("CI").is_none(), "BITNET_HAPROXY is not set");
        // Past the test runner, which shows what a test prints only when it fails.
        writeln!(io::stderr(), "not run: BITNET_HAPROXY is not set (see CONTRIBUTING.md)")
            .expect("standard error");
    }
    program
}

/// A running haproxy with the configuration of `deploy`, but for addresses and room.
struct Haproxy {
    url: String,
    /// Where it tells of its servers.
    statistics: String,
    folder: PathBuf,
    _program: Program,
}

impl Haproxy {
    async fn before(program: &OsString, engines: [&Server; 3], room: usize) -> Self {
        let (port, statistics) = (free_port().await, free_port().await);
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/haproxy/haproxy.cfg");
        let mut configuration = fs::read_to_string(file).expect("the configuration");
        let [first, second, third] = engines.map(|engine| format!("127.0.0.1:{}", engine.port()));
        for (there, here) in [
            ("bind :11434", format!("bind 127.0.0.1:{port}")),
            ("maxconn 8", format!("maxconn {room}")),
            ("10.0.0.11:11434", first),
            ("10.0.0.12:11434", second),
            ("10.0.0.13:11434", third),
        ] {
            assert!(configuration.contains(there), "{there} is not in haproxy.cfg");
            configuration = configuration.replace(there, &here);
        }
        let configuration = format!(
            "{configuration}\nfrontend statistics\n    bind 127.0.0.1:{statistics}\n    stats enable\n    stats uri /\n"
        );
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("haproxy-{port}"));
        fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("haproxy.cfg");
        fs::write(&file, configuration).expect("the configuration is written");
        // In the foreground and in one process, so that nothing is left when it is killed.
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(&file).stdin(Stdio::null());
        let program = Program::spawn("haproxy", &mut command);
        let listening = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        within("haproxy listens", listening).await;
        let url = |port| format!("http://127.0.0.1:{port}");
        Self { url: url(port), statistics: url(statistics), folder, _program: program }
    }

    /// How many engines get requests.
    async fn servers_up(&self) -> usize {
        let table = get(&format!("{}/;csv", self.statistics)).await;
        let table = table.body.as_str().expect("a table").to_owned();
        table.lines().filter(|line| line.starts_with("engines,engine") && line.contains(",UP,")).count()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A port on which nothing listens. haproxy cannot say which one it was given, so it cannot be asked for port 0.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("its address").port()
}
