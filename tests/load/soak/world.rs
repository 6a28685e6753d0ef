//! What all visitors know of the server, and how they ask it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use reqwest::{Client, Response};
use serde_json::{Value, json};

use super::raw;
use crate::arguments::Soak;
use crate::prompts::Prompts;
use crate::random::Random;
use crate::wire::{Api, Server};

/// How long anybody waits for an answer; more is an unasked error.
const PATIENCE: Duration = Duration::from_secs(120);

/// What all visitors know.
pub(super) struct World {
    pub(super) url: String,
    pub(super) client: Client,
    pub(super) prompts: Prompts,
    /// The answer to the question of a fixed seed, from before they came.
    pub(super) seeded: Value,
    pub(super) address: SocketAddr,
    pub(super) context: usize,
    pub(super) until: Instant,
}

impl World {
    pub(super) async fn of(arguments: &Soak, until: Instant) -> Result<Arc<Self>> {
        let url = arguments.url.trim_end_matches('/').to_owned();
        let server = Server { url: url.clone(), api: Api::Completion, key: None };
        let prompts = Prompts::of(&server).await?;
        let client = Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let props: Value = client.get(format!("{url}/props")).send().await?.json().await?;
        let context =
            props["default_generation_settings"]["n_ctx"].as_u64().context("/props has no n_ctx")? as usize;
        let place = url.strip_prefix("http://").context("only http:// is spoken")?;
        let address = tokio::net::lookup_host(place).await?.next().context("no address")?;
        let mut world = Self { url, client, prompts, seeded: Value::Null, address, context, until };
        world.seeded = world.seeded_answer().await?;
        Ok(Arc::new(world))
    }

    /// A response of 200; none when the engine says that it has no room now, and when to come back.
    pub(super) async fn ask(&self, path: &str, body: &Value) -> Result<Option<Response>> {
        let response =
            self.client.post(format!("{}{path}", self.url)).json(body).send().await.context("no answer")?;
        let status = response.status().as_u16();
        match status {
            200 => Ok(Some(response)),
            429 | 503 if response.headers().contains_key("retry-after") => Ok(None),
            _ => bail!("{path}: {status} {}", response.text().await.unwrap_or_default()),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Result<(u16, String)> {
        let response = self.client.get(format!("{}{path}", self.url)).send().await;
        let response = response.with_context(|| format!("{path} is not answered"))?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    /// A long answer, and many bytes for each token of it.
    pub(super) fn wordy(&self, random: &mut Random) -> Vec<u8> {
        let prompt = self.prompts.prompt(random.next(), 16);
        let tokens = self.context - 32;
        raw::post(
            "/completion",
            &json!({"prompt": prompt, "n_predict": tokens, "ignore_eos": true, "n_probs": 40, "stream": true}),
        )
    }

    /// At most this long, and not beyond the end.
    pub(super) fn at_most(&self, time: Duration) -> Duration {
        time.min(self.until.saturating_duration_since(Instant::now()))
    }
}
