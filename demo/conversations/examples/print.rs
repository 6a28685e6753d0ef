//! Prints what the demo model sees: `cargo run --example print -- [conversations] [seed] [theme]`.
//!
//! First the counts of each theme, then conversations. With `families` as the only argument, one line for each family.

use std::collections::BTreeMap;

use bitnet_demo_conversations::{Corpus, LoadError, Random};

fn main() -> Result<(), LoadError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize| arguments.get(index).map(String::as_str);
    let corpus = Corpus::load()?;
    if argument(0) == Some("families") {
        for family in corpus.families() {
            println!("{:16} {:30} {:>6}", family.theme(), family.name(), family.expansions());
        }
        return Ok(());
    }
    if argument(0) == Some("held-out") {
        for case in corpus.held_out() {
            let before: Vec<_> = case.before.iter().map(|turn| turn.user.as_str()).collect();
            println!("{:30} {} {}", case.family, before.join(" / "), case.question);
        }
        return Ok(());
    }
    let count = argument(0).and_then(|count| count.parse().ok()).unwrap_or(20);
    let seed = argument(1).and_then(|seed| seed.parse().ok()).unwrap_or(1);
    counts(&corpus);
    let theme_of: BTreeMap<_, _> =
        corpus.families().iter().map(|family| (family.name(), family.theme())).collect();
    let mut random = Random::new(seed);
    let mut printed = 0;
    while printed < count {
        let conversation = corpus.sample(&mut random);
        let is_wanted = |theme| conversation.turns.iter().any(|turn| theme_of[turn.family.as_str()] == theme);
        if argument(2).is_none_or(is_wanted) {
            printed += 1;
            println!();
            for turn in &conversation.turns {
                println!("> {}\n  {}    [{}]", turn.user, turn.assistant, turn.family);
            }
        }
    }
    Ok(())
}

fn counts(corpus: &Corpus) {
    let mut themes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for family in corpus.families() {
        let (families, expansions) = themes.entry(family.theme()).or_default();
        *families += 1;
        *expansions += family.expansions();
    }
    // As often as they are drawn.
    let mut random = Random::new(1);
    let (mut turns, mut user, mut assistant) = (0_usize, 0_usize, 0_usize);
    let mut drawn: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..20_000 {
        for turn in corpus.sample(&mut random).turns {
            turns += 1;
            user += turn.user.split_whitespace().count();
            assistant += turn.assistant.split_whitespace().count();
            *drawn.entry(turn.family).or_default() += 1;
        }
    }
    println!("{:18} {:>8} {:>10} {:>7}", "theme", "families", "expansions", "turns");
    for (theme, (families, expansions)) in &themes {
        let of_theme = corpus.families().iter().filter(|family| family.theme() == *theme);
        let drawn: usize = of_theme.filter_map(|family| drawn.get(family.name())).sum();
        println!("{theme:18} {families:>8} {expansions:>10} {:>6.1}%", 100.0 * drawn as f64 / turns as f64);
    }
    let expansions: usize = corpus.families().iter().map(bitnet_demo_conversations::Family::expansions).sum();
    println!(
        "{} families, {expansions} expansions, {} held-out cases; {:.2} turns a conversation, {:.1} words a question, {:.1} an answer",
        corpus.families().len(),
        corpus.held_out().len(),
        turns as f64 / 20_000.0,
        user as f64 / turns as f64,
        assistant as f64 / turns as f64,
    );
}
