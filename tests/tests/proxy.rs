//! Both programs behind a real nginx: pieces of an answer arrive as they are made, whatever it is configured to do. And the
//! configuration of `deploy/proxy`, loaded and used.
//!
//! No clock decides here whether a piece was passed on at once: the engine says the second piece only when the first has arrived.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{Program, busy_engine, get, post, web, web_with, within};
use reqwest::header::HeaderMap;
use reqwest::{Client, Response};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// What people have in `http { … }` besides an empty `location`, and whether answers are compressed by it.
const OPTIONS: [(&str, bool); 2] = [("", false), ("gzip on; gzip_types *;", true)];

#[tokio::test]
async fn the_page_s_pieces_pass_as_they_are_made() {
    let Some(program) = nginx() else { return };
    for (options, compressed) in OPTIONS {
        let engine = SlowEngine::start().await;
        let web = web(&engine.url).await;
        let nginx = Nginx::before(&program, &web.url, options, free_port().await).await;
        let body = json!({"message": "Hello"});
        let mut answer = Answer::of(&format!("{}/chat", nginx.url), &body.to_string(), compressed).await;
        answer.read_until("first").await;
        engine.say_more();
        answer.read_until("event: done").await;
        answer.read_to_end().await;
    }
}

#[tokio::test]
async fn the_engine_s_pieces_pass_as_they_are_made() {
    let Some(program) = nginx() else { return };
    for (options, compressed) in OPTIONS {
        let engine = busy_engine(&[]).await;
        let nginx = Nginx::before(&program, &engine.url, options, free_port().await).await;
        let messages = json!([{"role": "user", "content": "Hello"}]);
        let body = json!({"messages": messages, "stream": true, "max_tokens": 900, "ignore_eos": true});
        let path = "/v1/chat/completions";
        let mut answer = Answer::of(&format!("{}{path}", nginx.url), &body.to_string(), compressed).await;
        answer.read_until("\"content\":").await;
        // This engine serves one at a time and lets none wait: it refuses because it has not finished the first.
        let second = post(&format!("{}{path}", engine.url), json!({"messages": messages})).await;
        assert_eq!(second.status, 429, "{second:?}");
    }
}

#[tokio::test]
async fn whoever_leaves_behind_nginx_ends_the_engine_s_work() {
    let Some(program) = nginx() else { return };
    let mut engine = SlowEngine::start().await;
    let web = web(&engine.url).await;
    let nginx = Nginx::before(&program, &web.url, "", free_port().await).await;
    let mut answer = Answer::of(&format!("{}/chat", nginx.url), r#"{"message": "Hello"}"#, false).await;
    answer.read_until("first").await;
    drop(answer);
    engine.left().await;
}

/// On plain http browsers say nothing but `Origin`, and nginx, when nothing is configured, sends its upstream's address as Host.
#[tokio::test]
async fn over_plain_http_the_page_says_which_setting_it_needs_and_works_with_it() {
    let Some(program) = nginx() else { return };
    let engine = SlowEngine::start().await;
    engine.say_more();
    let port = free_port().await;
    let address = format!("http://127.0.0.1:{port}");
    let ask = async |url: &str, origin: &str| {
        let request = Client::builder().no_proxy().build().expect("a client").post(format!("{url}/chat"));
        let request = request.header("origin", origin).header("content-type", "application/json");
        let response =
            within("an answer", request.body(r#"{"message": "Hello"}"#).send()).await.expect("an answer");
        let status = response.status().as_u16();
        (status, within("the body", response.text()).await.expect("a text"))
    };

    let plain = web(&engine.url).await;
    let nginx = Nginx::before(&program, &plain.url, "", port).await;
    assert_eq!(get(&nginx.url).await.status, 200);
    let (status, body) = ask(&nginx.url, &address).await;
    assert_eq!(status, 403, "{body}");
    for part in [&*address, plain.url.trim_start_matches("http://"), "PUBLIC_ORIGIN"] {
        assert!(body.contains(part), "{part} is not in {body}");
    }
    drop(nginx);

    let told = web_with(&engine.url, &[("PUBLIC_ORIGIN", &address)]).await;
    let nginx = Nginx::before(&program, &told.url, "", port).await;
    let (status, body) = ask(&nginx.url, "http://evil.example").await;
    assert_eq!(status, 403, "{body}");
    let (status, body) = ask(&nginx.url, &address).await;
    assert!(status == 200 && body.contains("event: done"), "{status} {body}");
}

#[tokio::test]
async fn the_configuration_in_deploy_serves_the_page_over_tls_and_passes_its_pieces_on() {
    let Some(program) = nginx() else { return };
    let engine = SlowEngine::start().await;
    let web = web(&engine.url).await;
    let (http, https) = (free_port().await, free_port().await);
    let folder = Folder::new(https);
    certificate(folder.path());

    let mut configuration =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/proxy/nginx.conf"))
            .expect("the configuration");
    let here = format!("{}/", folder.path().display());
    for (there, here) in [
        ("/tmp/", here.clone()),
        ("/etc/nginx/tls/", here),
        ("listen 8080;", format!("listen 127.0.0.1:{http};")),
        ("listen 8443 ", format!("listen 127.0.0.1:{https} ")),
        ("http://web:8080", web.url.clone()),
    ] {
        assert!(configuration.contains(there), "{there} is not in nginx.conf");
        configuration = configuration.replace(there, &here);
    }
    let nginx = Nginx::start(&program, folder, &configuration, https).await;
    let (status, printed) = Program::spawn("nginx -t", nginx.command(&program).arg("-t")).ended().await;
    assert!(status.success() && !printed.contains("[warn]"), "{printed}");

    let origin = format!("https://127.0.0.1:{https}");
    let body = r#"{"message": "Hello"}"#;
    // Longer than nginx accepts by itself, as behind a sign-in.
    let cookie = "c".repeat(12 << 10);
    let request = format!(
        "POST /chat HTTP/1.1\r\nHost: 127.0.0.1:{https}\r\nOrigin: {origin}\r\nConnection: close\r\nCookie: {cookie}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = nginx.tls_client(&request);
    client.printed("the first piece", |text| text.contains("first").then_some(())).await;
    engine.say_more();
    let (_, answer) = client.ended().await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("event: done"), "{answer}");
    assert!(answer.contains("Strict-Transport-Security: max-age="), "{answer}");

    let client =
        Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let request = client.get(format!("http://127.0.0.1:{http}/x?y=z")).header("host", "chat.example");
    let response = within("an answer", request.send()).await.expect("an answer");
    assert_eq!(response.headers()["location"], "https://chat.example/x?y=z");
}

/// Where nginx is; without it these tests are left out.
fn nginx() -> Option<OsString> {
    let program = env::var_os("BITNET_NGINX");
    if program.is_none() {
        assert!(env::var_os("CI").is_none(), "BITNET_NGINX is not set");
        // Past the test runner, which shows what a test prints only when it fails.
        writeln!(io::stderr(), "not run: BITNET_NGINX is not set (see CONTRIBUTING.md)")
            .expect("standard error");
    }
    program
}

/// A port on which nothing listens. nginx cannot say which one it was given, so it cannot be asked for port 0.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("its address").port()
}

/// A folder for one nginx, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(port: u16) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nginx-{port}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running nginx with nothing but its own folder.
struct Nginx {
    url: String,
    port: u16,
    _program: Program,
    folder: Folder,
}

impl Nginx {
    /// In front of `upstream`, with a `location` that says nothing else.
    async fn before(program: &OsString, upstream: &str, options: &str, port: u16) -> Self {
        let configuration = format!(
            "pid nginx.pid; events {{}}
            http {{
                access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
                uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                {options}
                server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {upstream}; }} }}
            }}"
        );
        Self::start(program, Folder::new(port), &configuration, port).await
    }

    async fn start(program: &OsString, folder: Folder, configuration: &str, port: u16) -> Self {
        fs::write(folder.path().join("nginx.conf"), configuration).expect("the configuration is written");
        let mut command = command(program, folder.path());
        // In one process, so that nothing is left when it is killed.
        command.args(["-g", "daemon off; master_process off;"]).stdin(Stdio::null());
        let program = Program::spawn("nginx", &mut command);
        let listening = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        within("nginx listens", listening).await;
        Self { url: format!("http://127.0.0.1:{port}"), port, _program: program, folder }
    }

    /// nginx with the same configuration.
    fn command(&self, program: &OsString) -> Command {
        command(program, self.folder.path())
    }

    /// Sends `request` through TLS, trusting this nginx's certificate only, and prints the answer as it comes.
    fn tls_client(&self, request: &str) -> Program {
        let file = self.folder.path().join("request");
        fs::write(&file, request).expect("the request is written");
        let mut command = Command::new("openssl");
        command.args([
            "s_client",
            "-quiet",
            "-verify_quiet",
            "-verify_return_error",
            "-verify_ip",
            "127.0.0.1",
        ]);
        command.args(["-servername", "localhost"]).arg("-connect").arg(format!("127.0.0.1:{}", self.port));
        command.arg("-CAfile").arg(self.folder.path().join("certificate.pem"));
        Program::spawn("openssl", command.stdin(File::open(file).expect("the request")))
    }
}

fn command(program: &OsString, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")).args(["-e", "stderr"]);
    command
}

/// A certificate for this machine and its key, in the files that `deploy/proxy` expects.
fn certificate(folder: &Path) {
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .arg("-keyout")
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("certificate.pem"))
        .output()
        .expect("openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An engine that says one piece, and the rest when it is told to.
struct SlowEngine {
    url: String,
    go_on: std::sync::Mutex<Option<oneshot::Sender<()>>>,
    task: JoinHandle<bool>,
}

impl SlowEngine {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let (sender, told) = oneshot::channel();
        let task = tokio::spawn(answer(listener, told));
        Self { url, go_on: Some(sender).into(), task }
    }

    fn say_more(&self) {
        let sender = self.go_on.lock().expect("nobody panics with it").take().expect("said once");
        sender.send(()).expect("the engine waits");
    }

    /// Waits until the other side has closed before the engine went on.
    async fn left(&mut self) {
        let was_told = within("the engine is left", &mut self.task).await.expect("the engine ends");
        assert!(!was_told);
    }
}

/// Answers one request; whether it was told to go on before the other side left.
async fn answer(listener: TcpListener, told: oneshot::Receiver<()>) -> bool {
    let (mut connection, _) = listener.accept().await.expect("a connection");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.expect("a request"));
    }
    let head = String::from_utf8(head).expect("ASCII").to_lowercase();
    let (_, length) = head.split_once("\r\ncontent-length: ").expect("a length");
    let length = length.split("\r\n").next().expect("a line").parse().expect("a number");
    connection.read_exact(&mut vec![0; length]).await.expect("a body");

    let piece =
        |text| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}));
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    connection.write_all(format!("{head}{}", piece("first")).as_bytes()).await.expect("a reader");
    let is_told = tokio::select! {
        told = told => told.is_ok(),
        _ = connection.read_u8() => false,
    };
    if is_told {
        connection
            .write_all(format!("{}data: [DONE]\n\n", piece("second")).as_bytes())
            .await
            .expect("a reader");
    }
    is_told
}

/// What came so far of a body that may be compressed.
struct Answer {
    response: Response,
    compressed: bool,
    bytes: Vec<u8>,
}

impl Answer {
    async fn of(url: &str, body: &str, compressed: bool) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in [("content-type", "application/json"), ("accept-encoding", "gzip")] {
            headers.insert(name, value.parse().expect("a header"));
        }
        let client = Client::builder().no_proxy().build().expect("a client");
        let request = client.post(url).headers(headers).body(body.to_owned());
        let response = within("an answer", request.send()).await.expect("an answer");
        assert_eq!(response.status(), 200);
        let coding = response.headers().get("content-encoding").map(|coding| coding.to_str().expect("ASCII"));
        assert_eq!(coding, compressed.then_some("gzip"));
        Self { response, compressed, bytes: Vec::new() }
    }

    async fn read_until(&mut self, part: &str) {
        while !self.text().contains(part) {
            let chunk = within(part, self.response.chunk()).await.expect("an answer without a break");
            self.bytes
                .extend_from_slice(&chunk.unwrap_or_else(|| panic!("{part} is not in {}", self.text())));
        }
    }

    async fn read_to_end(&mut self) {
        while let Some(chunk) =
            within("the end", self.response.chunk()).await.expect("an answer without a break")
        {
            self.bytes.extend_from_slice(&chunk);
        }
    }

    /// As text; of a compressed body as much as can be told from what is there.
    fn text(&self) -> String {
        if !self.compressed {
            return String::from_utf8_lossy(&self.bytes).into_owned();
        }
        let mut gzip = Command::new("gzip");
        gzip.args(["--decompress", "--stdout"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut gzip = gzip.spawn().expect("gzip");
        gzip.stdin.take().expect("its input").write_all(&self.bytes).expect("gzip reads");
        // It fails where the end is missing, after it has written what came before.
        let output = gzip.wait_with_output().expect("gzip");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
