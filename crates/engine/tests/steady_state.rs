//! Decoding a token neither allocates nor frees memory, on no thread: it takes as long as the computation, always.
//!
//! One test in a program of its own, since the allocator that counts serves all of its threads.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bitnet_engine::bench::kernels::{Isa, LmHeadSearch, Pool};
use bitnet_engine::bench::{Decoder, Several};
use bitnet_engine::config::Config;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/nano64/model-i2_s.gguf");

/// The system's allocator, which notes each call of any thread while `COUNTING`.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static COUNTING: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicUsize = AtomicUsize::new(0);
/// Size of the last block that was asked for or given back.
static LAST_SIZE: AtomicUsize = AtomicUsize::new(0);

fn note(size: usize) {
    if COUNTING.load(Ordering::SeqCst) {
        CALLS.fetch_add(1, Ordering::SeqCst);
        LAST_SIZE.store(size, Ordering::SeqCst);
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
#[expect(unsafe_code, reason = "an allocator that counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: by the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(layout.size());
        // SAFETY: by the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: by the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: by the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[test]
fn decoding_does_not_allocate_on_any_thread() {
    assert!(calls_of(|| drop(std::hint::black_box(vec![1u8; 100]))).0 >= 2, "calls are counted");
    let on_a_worker =
        || pool(2).run(100, |_| drop(std::hint::black_box(vec![1u8; std::hint::black_box(100)])));
    assert!(calls_of(on_a_worker).0 >= 200, "those of other threads too");

    let requests: [(&str, &[&str]); 4] = [
        ("greedy", &["--temp", "0"]),
        ("what a request without parameters gets", &[]),
        ("nucleus of all tokens", &["--top-k", "0", "--top-p", "0.9", "--min-p", "0"]),
        ("penalties", &["--repeat-penalty", "1.1"]),
    ];
    for threads in [1, 2] {
        for (cache_type, lm_head) in [("f16", "exact"), ("f32", "exact"), ("f16", "q8"), ("f16", "q4")] {
            for (name, sampling) in requests {
                check_decoding(threads, cache_type, lm_head, name, sampling);
            }
        }
        for states in [1, 3, 8, 9] {
            check_search(threads, states);
        }
        for sequences in [2, 5, 8, 9] {
            check_decoding_together(threads, sequences, &["--temp", "0"]);
            check_decoding_together(threads, sequences, &["--repeat-penalty", "1.1"]);
        }
    }
}

/// A forward pass, the logits that the sampler asks for, a token: across the borders of several pages of the cache.
fn check_decoding(threads: usize, cache_type: &str, lm_head: &str, name: &str, sampling: &[&str]) {
    const PROMPT: usize = 60;
    const WARM_UP: usize = 4;
    const STEPS: usize = 400;
    let mut decoder = load(threads, cache_type, lm_head, sampling);
    let prompt: Vec<u32> = (0..PROMPT as u32).map(|position| position * 37 % 1_000).collect();
    decoder.prefill(&prompt).unwrap();

    let mut step = || decoder.step().unwrap();
    (0..WARM_UP).for_each(|_| _ = step());
    for position in PROMPT + WARM_UP..PROMPT + STEPS {
        let (calls, size) = calls_of(|| _ = step());
        let context =
            format!("{name}, {threads} threads, {cache_type} cache, {lm_head} lm_head, position {position}");
        assert_eq!(calls, 0, "{context}: calls of the allocator, the last for {size} bytes");
    }
}

/// The same for several sequences in the same steps; and each has the tokens that it has alone.
fn check_decoding_together(threads: usize, sequences: usize, sampling: &[&str]) {
    const WARM_UP: usize = 4;
    const STEPS: usize = 300;
    let prompts: Vec<Vec<u32>> = (0..sequences as u32)
        .map(|sequence| (0..20 + 9 * sequence).map(|position| (position * 37 + sequence) % 1_000).collect())
        .collect();
    let mut together =
        Several::open(&config(threads, "f16", "exact", sampling), Path::new(MODEL), &prompts).unwrap();
    let mut tokens = Vec::with_capacity(STEPS * sequences);
    for step in 0..STEPS {
        let (calls, size) = calls_of(|| together.step().unwrap());
        assert!(
            step < WARM_UP || calls == 0,
            "{sequences} sequences, {threads} threads, step {step}: {calls} calls of the allocator, the last for {size} bytes"
        );
        tokens.extend(together.last());
    }
    for (sequence, prompt) in prompts.iter().enumerate() {
        let mut alone = load(threads, "f16", "exact", sampling);
        alone.prefill(prompt).unwrap();
        for step in 0..STEPS {
            assert_eq!(
                alone.step().unwrap(),
                tokens[step * sequences + sequence],
                "sequence {sequence}, step {step}"
            );
        }
    }
}

/// The search in the 8-bit copy of an exact `lm_head`, which models of this size do without.
fn check_search(threads: usize, states: usize) {
    let (mut pool, isa) = (pool(threads), Isa::best());
    let mut search = LmHeadSearch::new(&mut pool, isa, [4_000, 64], states).unwrap();
    for step in 0..50 {
        search.change_states();
        // More and more candidates.
        for top in [true, false] {
            let mut found = None;
            let (calls, size) = calls_of(|| {
                found = if top {
                    search.top(&mut pool, isa, 1 + step)
                } else {
                    search.within(&mut pool, isa, step as f32 / 25.0)
                };
            });
            assert!(found.is_some(), "step {step} is worth a search");
            assert!(step == 0 || calls == 0, "step {step}: {calls} calls, the last for {size} bytes");
        }
    }
}

/// Calls of the allocator on all threads while `work` runs, and the size that the last one was about.
fn calls_of(work: impl FnOnce()) -> (usize, usize) {
    CALLS.store(0, Ordering::SeqCst);
    COUNTING.store(true, Ordering::SeqCst);
    work();
    COUNTING.store(false, Ordering::SeqCst);
    (CALLS.load(Ordering::SeqCst), LAST_SIZE.load(Ordering::SeqCst))
}

/// A pool whose threads have all begun to work: a thread that starts allocates, however late the system lets it run.
fn pool(threads: usize) -> Pool {
    let mut pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
    let begun = AtomicUsize::new(0);
    pool.run(threads, |_| {
        begun.fetch_add(1, Ordering::SeqCst);
        while begun.load(Ordering::SeqCst) < threads {
            std::thread::yield_now();
        }
    });
    pool
}

fn load(threads: usize, cache_type: &str, lm_head: &str, sampling: &[&str]) -> Decoder {
    Decoder::open(&config(threads, cache_type, lm_head, sampling), Path::new(MODEL)).unwrap()
}

fn config(threads: usize, cache_type: &str, lm_head: &str, sampling: &[&str]) -> Config {
    let threads = threads.to_string();
    let flags = ["--threads", &threads, "--cache-type", cache_type, "--head", lm_head];
    let limits = ["--ctx-size", "512", "--ubatch-size", "64"];
    Config::parse([&["x", "--seed", "7"], &flags[..], &limits, sampling].concat()).unwrap()
}
