//! Both servers, ready to be asked.

use std::time::Duration;

use tokio::time::sleep;

use crate::http::get;
use crate::program::{Program, within};

/// A small random model. What it says makes no sense, but it is always the same. Its context has 1,024 tokens.
pub const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/nano64/model-i2_s.gguf");

/// A server and where it answers.
#[derive(Debug)]
pub struct Server {
    /// Ended when this is dropped.
    pub program: Program,
    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub url: String,
}

impl Server {
    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> &str {
        self.url.rsplit(':').next().unwrap_or_default()
    }
}

/// The engine with [`MODEL`], ready to answer.
pub async fn engine(arguments: &[&str]) -> Server {
    engine_on_port("0", arguments).await
}

/// The engine as soon as its port is open.
pub async fn engine_listening(arguments: &[&str], environment: &[(&str, &str)]) -> Server {
    listening(Program::start("bitnet-engine", arguments, environment)).await
}

/// The engine as it starts when nothing is said: with the demo model inside it.
pub async fn demo_engine() -> Server {
    let server = engine_listening(&["--port", "0"], &[]).await;
    healthy(&server.url).await;
    server
}

/// An engine that serves one request at a time, slowly (the scalar kernel on one thread), and in which none waits: the
/// next is refused with 429.
pub async fn busy_engine(arguments: &[&str]) -> Server {
    engine(&[&["--isa", "scalar", "--threads", "1", "--parallel", "1", "--queue", "0"], arguments].concat())
        .await
}

/// The same as [`engine`] where a page expects it.
pub async fn engine_on_port(port: &str, arguments: &[&str]) -> Server {
    let arguments = [&["--model", MODEL, "--port", port], arguments].concat();
    let server = engine_listening(&arguments, &[]).await;
    healthy(&server.url).await;
    server
}

/// The chat page, relaying to `engine_url`, where nothing has to be listening yet.
pub async fn web(engine_url: &str) -> Server {
    web_with(engine_url, &[]).await
}

/// The same with more variables.
pub async fn web_with(engine_url: &str, environment: &[(&str, &str)]) -> Server {
    let environment = [&[("LISTEN", "127.0.0.1:0"), ("ENGINE_URL", engine_url)], environment].concat();
    listening(Program::start("bitnet-web", &[], &environment)).await
}

/// Both in one process; the address is the page's.
pub async fn standalone() -> Server {
    let arguments = ["--model", MODEL, "--port", "0", "--temp", "0"];
    listening(Program::start("bitnet-chat", &arguments, &[("LISTEN", "127.0.0.1:0")])).await
}

/// The first address that a server started on port 0 prints: its own.
async fn listening(mut program: Program) -> Server {
    let port = program.printed("its address", |text| {
        let (_, rest) = text.split_once("127.0.0.1:")?;
        let digits = rest.split_once(|end: char| !end.is_ascii_digit())?.0;
        digits.parse::<u16>().ok().filter(|&port| port != 0)
    });
    let url = format!("http://127.0.0.1:{}", port.await);
    Server { program, url }
}

/// Asks until the engine is ready, as a container runtime does: health is a question, not an event.
pub async fn healthy(url: &str) {
    let asking = async {
        while get(&format!("{url}/health")).await.status != 200 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    within("the engine is healthy", asking).await;
}
