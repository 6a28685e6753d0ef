//! What has to hold of an engine whose visitors are gone.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::world::World;

/// Whatever has been cut off, its work ends within a step.
const UNTIL_FREE: Duration = Duration::from_secs(15);
/// What a gauge has to be when nobody is there.
const ZERO: [&str; 5] = [
    "bitnet_slots_busy",
    "bitnet_pages_used",
    "bitnet_pages_shared",
    "llamacpp:requests_processing",
    "llamacpp:requests_deferred",
];

/// Resident memory in kB, as the kernel counts it.
pub(super) struct Memory {
    /// The most while everything is being touched for the first time.
    first: u64,
    /// The most later.
    later: u64,
}

impl Memory {
    /// Looks four times a second; the first minute is the first part, or of a short time the first half.
    pub(super) async fn watch(pid: u32, duration: Duration) -> Result<Self> {
        let (start, settling) = (Instant::now(), Duration::from_secs(60).min(duration / 2));
        let mut memory = Self { first: resident(pid)?, later: 0 };
        while start.elapsed() < duration {
            let now = resident(pid)?;
            let part = if start.elapsed() < settling { &mut memory.first } else { &mut memory.later };
            *part = now.max(*part);
            sleep(Duration::from_millis(250)).await;
        }
        Ok(memory)
    }

    /// At most `growth` MiB more later than first.
    pub(super) fn is_bounded(&self, growth: u64) -> Result<String> {
        let said = format!("{} kB at first, {} kB later", self.first, self.later);
        ensure!(self.later <= self.first + growth * 1024, "{said}, which is more than {growth} MiB more");
        Ok(said)
    }
}

/// `VmRSS` of a process.
fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("{path}: the server has ended"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    number.with_context(|| format!("{path} has no VmRSS"))
}

impl World {
    /// No slot computes, and what is counted by gauges is back at zero.
    pub(super) async fn everything_is_free(&self) -> Result<String> {
        let start = Instant::now();
        loop {
            let busy = self.busy().await?;
            if busy.is_empty() {
                return Ok(format!("after {} ms", start.elapsed().as_millis()));
            }
            ensure!(start.elapsed() < UNTIL_FREE, "after {UNTIL_FREE:?} still {}", busy.join(", "));
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn busy(&self) -> Result<Vec<String>> {
        let slots: Value = self.client.get(format!("{}/slots", self.url)).send().await?.json().await?;
        let slots = slots.as_array().context("/slots is no list")?;
        let computing = slots.iter().filter(|slot| slot["is_processing"] != false);
        let mut busy: Vec<_> = computing.map(|slot| format!("slot {}", slot["id"])).collect();
        let response = self.client.get(format!("{}/metrics", self.url)).send().await?;
        if response.status() == 200 {
            let gauges = samples(&response.text().await?)?;
            let taken = gauges.iter().filter(|(name, value)| ZERO.contains(&name.as_str()) && **value != 0.0);
            busy.extend(taken.map(|(name, value)| format!("{name} {value}")));
        }
        Ok(busy)
    }

    /// Bit for bit what was answered before all of this: text, tokens, and log-probabilities.
    pub(super) async fn same_answer(&self) -> Result<String> {
        let now = self.seeded_answer().await?;
        ensure!(now == self.seeded, "{now} instead of {}", self.seeded);
        Ok(format!("{} tokens", now["tokens"].as_array().map_or(0, Vec::len)))
    }

    /// The answer to a question that draws by chance, of a fixed seed.
    pub(super) async fn seeded_answer(&self) -> Result<Value> {
        let body = json!({
            "prompt": self.prompts.prompt(1 << 60, 24), "seed": 11, "temperature": 0.9, "n_predict": 48, "ignore_eos": true,
            "n_probs": 3, "return_tokens": true,
        });
        let response = self.client.post(format!("{}/completion", self.url)).json(&body).send().await?;
        let status = response.status();
        let mut answer: Value = response.json().await?;
        let parts = ["content", "tokens", "completion_probabilities"];
        ensure!(status == 200 && parts.iter().all(|part| !answer[part].is_null()), "{status}: {answer}");
        Ok(parts.iter().map(|&part| (part.to_owned(), answer[part].take())).collect())
    }
}

/// The values of a scrape that have no labels, by name. Whatever is no line of Prometheus' text format is an error.
pub(super) fn samples(text: &str) -> Result<BTreeMap<String, f64>> {
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').with_context(|| format!("no value: {line}"))?;
        let number: f64 = value.parse().with_context(|| format!("no number: {line}"))?;
        let name = series.split('{').next().unwrap_or_default();
        if name.is_empty() || name.contains(' ') || series.contains('{') != series.ends_with('}') {
            bail!("no name: {line}");
        }
        if name == series {
            samples.insert(name.to_owned(), number);
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_is_read_and_a_broken_one_refused() {
        let text = "# HELP a_b Something.\n# TYPE a_b gauge\na_b 2\nllamacpp:c 1e3\nd{e=\"f g\"} +Inf\n";
        let expected = BTreeMap::from([("a_b".to_owned(), 2.0), ("llamacpp:c".to_owned(), 1000.0)]);
        assert_eq!(samples(text).expect("a scrape"), expected);
        for broken in ["a", "a b", "a{b=\"c\" 1", " 1", "<html> 1 2"] {
            assert!(samples(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn memory_may_grow_by_so_much_and_no_more() {
        let grown = |later| Memory { first: 10_000, later }.is_bounded(1).is_ok();
        assert!(grown(9_000) && grown(11_024) && !grown(11_025));
    }

    #[test]
    fn this_process_has_memory_and_one_that_ended_has_none() {
        assert!(resident(std::process::id()).expect("own memory") > 100);
        assert!(resident(u32::MAX).is_err());
    }
}
