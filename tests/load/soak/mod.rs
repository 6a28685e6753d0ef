//! Minutes of mixed traffic on one engine: who chats, leaves in mid-answer, reads a byte a second or nothing at all, sends garbage, asks too
//! much at once. Nobody may get an error that was not called for; and when all are gone, the engine is as it was: as large, with
//! all places free, and with the same answer to the same question.

mod checks;
mod garbage;
mod raw;
mod visitors;
mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::Report;
use crate::arguments::Soak;
use checks::Memory;
use visitors::KINDS;
use world::World;

/// How many unasked errors are shown in full.
const SHOWN: usize = 20;
/// How long a visitor who came before the end may take to go. Longer than the engine's own patience with anybody.
const LEAVING: Duration = Duration::from_secs(180);

/// What the visitors tell, by kind and outcome.
#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<(&'static str, &'static str), usize>,
    unasked: Vec<String>,
}

pub(crate) async fn run(arguments: &Soak) -> Result<Report> {
    let duration = Duration::from_secs_f64(arguments.minutes * 60.0);
    let world = World::of(arguments, Instant::now() + duration).await?;
    let memory = arguments.pid.map(|pid| tokio::spawn(Memory::watch(pid, duration)));
    let mut visitors = JoinSet::new();
    for (number, kind) in KINDS.iter().flat_map(|kind| std::iter::repeat_n(kind, kind.at_once)).enumerate() {
        visitors.spawn(visitors::come_and_go(world.clone(), kind, number as u64));
    }
    let mut tally = Tally::default();
    let all = async {
        while let Some(visits) = visitors.join_next().await {
            match visits {
                Ok(visits) => tally.count(visits),
                Err(error) => tally.unasked.push(format!("a visitor: {error}")),
            }
        }
    };
    if tokio::time::timeout(duration + LEAVING, all).await.is_err() {
        tally.unasked.push(format!("{} visitors still wait for an answer", visitors.len()));
    }
    drop(visitors);
    let mut text = tally.text();
    let mut failed = !tally.unasked.is_empty();
    let mut check = |name: &str, result: Result<String>| {
        failed |= result.is_err();
        let (verdict, words) =
            result.map_or_else(|error| ("FAILED", format!("{error:#}")), |words| ("ok", words));
        let _ = write!(text, "\n{verdict:<7} {name}: {words}");
    };
    check("everything is free", world.everything_is_free().await);
    check("the same answer as before", world.same_answer().await);
    if let Some(memory) = memory {
        check("memory", memory.await?.and_then(|memory| memory.is_bounded(arguments.growth)));
    }
    Ok(Report { text, failed })
}

impl Tally {
    fn count(&mut self, visits: Vec<visitors::Visit>) {
        for visit in visits {
            match visit.outcome {
                Ok(outcome) => *self.outcomes.entry((visit.kind, outcome)).or_default() += 1,
                Err(error) => self.unasked.push(format!("{}: {error:#}", visit.kind)),
            }
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for ((kind, outcome), count) in &self.outcomes {
            let _ = writeln!(text, "{count:>7} {kind}: {outcome}");
        }
        for error in self.unasked.iter().take(SHOWN) {
            let _ = writeln!(text, "UNASKED {error}");
        }
        let _ = write!(text, "{:>7} unasked errors", self.unasked.len());
        text
    }
}
