//! A model that is not there yet: the engine downloads it, says how far it is, and goes on where an earlier start broke off.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use e2e::{Events, MODEL, Program, engine_listening, get, healthy, post, web_with, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

const REFERENCE: &str = "hf:someone/small/model.gguf";

/// A hub on loopback. Each connection brings half of what is missing and then waits for a permit to break off, or to send the
/// rest when half has been sent before.
struct Hub {
    url: String,
    /// One for each connection that may go on.
    permits: Arc<Semaphore>,
    /// The first byte that each request asked for.
    requests: mpsc::UnboundedReceiver<usize>,
}

impl Hub {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let permits = Arc::new(Semaphore::new(0));
        let (sender, requests) = mpsc::unbounded_channel();
        let may_go_on = Arc::clone(&permits);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&may_go_on), sender.clone()));
            }
        });
        Self { url, permits, requests }
    }

    async fn request(&mut self) -> usize {
        within("a request to the hub", self.requests.recv()).await.expect("the hub runs")
    }
}

async fn serve(mut stream: TcpStream, permits: Arc<Semaphore>, requests: mpsc::UnboundedSender<usize>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).expect("a head in ASCII").to_lowercase();
    assert!(head.starts_with("get /someone/small/resolve/main/model.gguf "), "{head}");
    let range = head.split_once("range: bytes=").and_then(|(_, range)| range.split_once('-'));
    let from = range.map_or(0, |(from, _)| from.parse().expect("a number"));
    requests.send(from).ok();

    let file = fs::read(MODEL).expect("the fixture");
    let (total, rest) = (file.len(), &file[from..]);
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    let range = format!("bytes {from}-{}/{total}", total - 1);
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-range: {range}\r\netag: \"one\"\r\nconnection: close\r\n\r\n",
        rest.len()
    );
    // The engine may end in the middle.
    stream.write_all(head.as_bytes()).await.ok();
    let (now, later) = rest.split_at(if from > 0 { 0 } else { total / 2 });
    stream.write_all(now).await.ok();
    stream.flush().await.ok();
    permits.acquire().await.expect("permits").forget();
    if from > 0 {
        stream.write_all(later).await.ok();
    }
}

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bitnet-e2e-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    fn environment<'a>(&'a self, hub: &'a str) -> [(&'a str, &'a str); 2] {
        [("HF_ENDPOINT", hub), ("BITNET_MODEL_DIR", self.0.to_str().expect("a path in Unicode"))]
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Asks the page's server until the engine is in this state; the whole report.
async fn until(url: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let asking = async {
        loop {
            let report = get(url).await.body;
            if holds(&report) {
                return report;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within(&format!("a report of {url}"), asking).await
}

#[tokio::test]
async fn a_model_is_downloaded_while_the_page_shows_how_far_it_is() {
    let (mut hub, folder) = (Hub::start().await, Folder::new());
    let total = fs::metadata(MODEL).expect("the fixture").len();
    let flags = ["--model", REFERENCE, "--port", "0", "--temp", "0"];
    let engine = engine_listening(&flags, &folder.environment(&hub.url)).await;
    // Whoever writes meanwhile is not put off, however little patience the page's server has.
    let web = web_with(&engine.url, &[("ENGINE_WAIT", "0")]).await;
    assert_eq!(hub.request().await, 0);

    let half = json!({"bytes": total / 2, "total": total, "seconds_left": null});
    let known = |progress: &Value| {
        let mut progress = progress.clone();
        progress["seconds_left"] = Value::Null;
        progress == half
    };
    let health = until(&format!("{}/health", engine.url), |report| known(&report["progress"])).await;
    assert_eq!((&health["status"], &health["error"]["code"]), (&json!("downloading"), &json!(503)));
    let status = until(&format!("{}/status", web.url), |report| known(&report["download"])).await;
    assert_eq!(status["engine"], "loading");

    let mut early = Events::of(&format!("{}/chat", web.url), json!({"message": "Hi"})).await;
    let first = early.next().await.expect("an event");
    assert_eq!((first.event.as_str(), first.data.as_str()), ("status", r#"{"state":"loading"}"#));

    // The first connection breaks off, the second one brings the rest.
    hub.permits.add_permits(2);
    assert_eq!(hub.request().await as u64, total / 2);
    healthy(&engine.url).await;
    while early.next().await.expect("no end without the event `done`").event != "done" {}
    let status = get(&format!("{}/status", web.url)).await.body;
    assert_eq!((&status["engine"], &status["download"]), (&json!("ready"), &Value::Null));
    let answer = post(
        &format!("{}/v1/chat/completions", engine.url),
        json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}),
    )
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["model"], "model");
}

#[tokio::test]
async fn what_a_killed_engine_has_downloaded_is_not_downloaded_again() {
    let (mut hub, folder) = (Hub::start().await, Folder::new());
    let total = fs::metadata(MODEL).expect("the fixture").len();
    let flags = ["--model", REFERENCE, "--port", "0"];
    let engine = engine_listening(&flags, &folder.environment(&hub.url)).await;
    assert_eq!(hub.request().await, 0);
    until(&format!("{}/health", engine.url), |report| report["progress"]["bytes"] == total / 2).await;
    drop(engine);

    hub.permits.add_permits(9);
    let mut pull = Program::start("bitnet-engine", &["pull", REFERENCE], &folder.environment(&hub.url));
    let (status, printed) = pull.ended().await;
    assert_eq!(status.code(), Some(0), "{printed}");
    // One that learns which file it is, one for the rest.
    assert_eq!((hub.request().await, hub.request().await as u64), (0, total / 2));
    let path = folder.0.join("someone/small/main/model.gguf");
    assert!(printed.contains(path.to_str().expect("a path in Unicode")), "{printed}");
    assert!(fs::read(path).expect("the model") == fs::read(MODEL).expect("the fixture"));

    // It is there, so the hub need not be.
    let mut again =
        Program::start("bitnet-engine", &["pull", REFERENCE], &folder.environment("http://127.0.0.1:9"));
    assert_eq!(again.ended().await.0.code(), Some(0));
}
