//! What hostile vocabularies, templates and texts cost in memory: a small multiple of what they are themselves.
//!
//! One test in a program of its own, since the allocator that counts serves all of its threads.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bitnet_engine::chat_template::{ChatTemplate, Message};
use bitnet_engine::tokenizer::{Tokenizer, Vocabulary};

/// The system's allocator, which notes how much is in use and how much ever was.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn taken(bytes: usize) {
    let in_use = IN_USE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(in_use, Ordering::Relaxed);
}

fn given_back(bytes: usize) {
    IN_USE.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged.
#[expect(unsafe_code, reason = "an allocator that counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: by the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        given_back(layout.size());
        // SAFETY: by the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // A block that moves is in memory twice.
        taken(size);
        given_back(layout.size());
        // SAFETY: by the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

const MEGABYTE: usize = 1 << 20;

/// The most that `work` had in use beside what was there before, in bytes.
fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = IN_USE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    (PEAK.load(Ordering::Relaxed) - before, result)
}

/// A vocabulary of all bytes, and what is added.
struct Words {
    tokens: Vec<String>,
    kinds: Vec<i32>,
    merges: Vec<String>,
}

impl Words {
    fn new() -> Self {
        let printable = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let displaced = (0x100..).take(68);
        let bytes = (0..0x100).filter(printable).chain(displaced);
        let tokens: Vec<String> = bytes.map(|code| char::from_u32(code).unwrap().to_string()).collect();
        Self { kinds: vec![1; tokens.len()], tokens, merges: Vec::new() }
    }

    fn with(mut self, kind: i32, tokens: impl IntoIterator<Item = String>) -> Self {
        self.tokens.extend(tokens);
        self.kinds.resize(self.tokens.len(), kind);
        self
    }

    /// What a file needs for it.
    fn bytes(&self) -> usize {
        let texts = self.tokens.iter().chain(&self.merges);
        texts.map(|text| 8 + text.len()).sum::<usize>() + 4 * self.kinds.len()
    }

    fn tokenizer(&self) -> Result<Tokenizer, String> {
        let vocabulary = Vocabulary {
            model: "gpt2",
            split_rule: Some("llama-bpe"),
            tokens: &self.tokens,
            token_types: &self.kinds,
            merges: &self.merges,
            bos: None,
            eos: None,
            eot: None,
            adds_bos: None,
        };
        Tokenizer::new(&vocabulary, self.tokens.len()).map_err(|error| error.to_string())
    }
}

fn vocabularies() {
    let a = |length: usize| "a".repeat(length);
    let merges = |merges: Vec<String>| Words { merges, ..Words::new().with(1, ["aa".to_owned()]) };
    for (name, words, usable) in [
        ("one long control token", Words::new().with(3, [a(1_000_000)]), false),
        ("one long user-defined token", Words::new().with(4, [a(1_000_000)]), false),
        ("one long ordinary token", Words::new().with(1, [a(1_000_000)]), true),
        ("control tokens in each other", Words::new().with(3, (2..=256).map(a)), true),
        ("ordinary tokens in each other", Words::new().with(1, (2..=2_000).map(a)), true),
        ("many control tokens", Words::new().with(3, (0..20_000).map(|n| format!("{n:0>200}"))), true),
        ("many short control tokens", Words::new().with(3, (0..200_000).map(|n| format!("<{n}>"))), true),
        ("many ordinary tokens", Words::new().with(1, (0..300_000).map(|n| format!("{n:07}"))), true),
        ("many merges", merges(vec!["a a".to_owned(); 1_000_000]), true),
        ("long merges", merges(vec![a(500_000) + " " + &a(500_000); 4]), false),
    ] {
        let (peak, result) = peak_of(|| words.tokenizer());
        assert_eq!(result.is_ok(), usable, "{name}: {:?}", result.err());
        let limit = 24 * words.bytes() + MEGABYTE;
        println!("{name}: {} of a file, {peak} of memory", words.bytes());
        assert!(peak <= limit, "{name}: {peak} bytes for a file of {}", words.bytes());
    }
}

fn templates() {
    let tokenizer = Words::new().tokenizer().unwrap();
    let render = |source: &str, content: &str| {
        let source = format!("{{% if 'go' in messages[0].content %}}{source}{{% endif %}}");
        let template = ChatTemplate::select(Some(&source), None, &tokenizer).unwrap();
        let messages = [Message { role: "user".to_owned(), content: content.to_owned() }];
        peak_of(|| template.render(&messages, true))
    };
    let double = |what: &str| {
        format!(
            "{{% set n = namespace(s='x ', l=[1]) %}}{{% for i in range(60) %}}{{% set {what} %}}{{% endfor %}}"
        )
    };
    for source in [
        double("n.s = n.s ~ n.s"),
        double("n.s = n.s | replace('x', 'xx')"),
        double("n.s = n.s.join([n.s, n.s])"),
        double("n.s = n.s | list | join(n.s)"),
        double("n.l = n.l + n.l"),
        double("n.l = n.l * 2"),
        double("n.s = n.s ~ n.s | tojson"),
        "{{ 'x' * 10 ** 9 }}".to_owned(),
        "{{ 'a\\nb' | indent(10 ** 9) }}".to_owned(),
        "{{ range(10 ** 6) | list | list }}".to_owned(),
        "{{ ('x ' * 10 ** 6).split() }}".to_owned(),
        "{% macro m(x) %}{{ m(x ~ x) }}{% endmacro %}{{ m('xx') }}".to_owned(),
        "{% set n = namespace(s='') %}{% for i in range(10 ** 6) %}{% set n.s = n.s ~ messages[0].content %}{% endfor %}".to_owned(),
        "{% for i in range(10 ** 6) %}{% set x %}{{ messages }}{% endset %}{% endfor %}".to_owned(),
        "{% set n = namespace(l=[]) %}{% for i in range(10 ** 6) %}{% set n.l = n.l + [messages[0].content.upper()] %}{% endfor %}".to_owned(),
    ] {
        for length in [2, 100_000] {
            let content = "go".repeat(length / 2);
            let (peak, result) = render(&source, &content);
            assert!(result.is_err(), "{source}");
            println!("{peak} bytes: {source}");
            assert!(peak <= 64 * MEGABYTE + 64 * content.len(), "{peak} bytes: {source}");
        }
    }
}

fn texts() {
    let merges = vec!["a a".to_owned()];
    let tokenizer = Words { merges, ..Words::new().with(1, ["aa".to_owned()]) }.tokenizer().unwrap();
    for unit in ["a", "1a", " ", "\n", "<", "日"] {
        let text = unit.repeat(4 * MEGABYTE / unit.len());
        let (peak, ids) = peak_of(|| tokenizer.encode(&text, true).unwrap());
        println!("{unit:?}: {peak} bytes, {} tokens", ids.len());
        assert!(peak <= 40 * text.len(), "{unit:?}: {peak} bytes for {} of text", text.len());
        assert_eq!(tokenizer.decode(&ids, true), text);
    }
}

#[test]
fn what_a_stranger_sends_takes_a_small_multiple_of_its_own_size() {
    assert!(peak_of(|| vec![1_u8; MEGABYTE]).0 >= MEGABYTE, "memory is counted");
    vocabularies();
    templates();
    texts();
}
