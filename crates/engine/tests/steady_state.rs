//! Decoding a token neither allocates nor frees memory, on no thread: it takes as long as the computation, always.
//!
//! One test in a program of its own, since the allocator that counts serves all of its threads.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bitnet_engine::checkpoint::Checkpoint;
use bitnet_engine::kernels::{
    CacheType, Demand, FloatMatrix, Int8Matrix, Isa, Rows, Search, Searchable, ShortCopy,
};
use bitnet_engine::model::{HeadType, Inference, InferenceOptions, Model, Row};
use bitnet_engine::pool::Pool;
use bitnet_engine::sampling::{Sampler, SamplingParameters};

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

    let plain = SamplingParameters { seed: 7, ..SamplingParameters::default() };
    let requests = [
        ("greedy", SamplingParameters { temperature: 0.0, ..plain.clone() }),
        ("what a request without parameters gets", SamplingParameters { top_k: 40, ..plain.clone() }),
        ("nucleus of all tokens", SamplingParameters { top_k: 0, top_p: 0.9, ..plain.clone() }),
        ("penalties", SamplingParameters { repeat_penalty: 1.1, top_k: 40, ..plain }),
    ];
    for threads in [1, 2] {
        for (cache_type, head) in [
            (CacheType::F16, HeadType::Exact),
            (CacheType::F32, HeadType::Exact),
            (CacheType::F16, HeadType::Q8),
            (CacheType::F16, HeadType::Q4),
        ] {
            for (name, parameters) in &requests {
                check_decoding(threads, cache_type, head, name, parameters);
            }
        }
        check_search(threads);
    }
}

/// A forward pass, the logits that the sampler asks for, a token: across the borders of several pages of the cache.
fn check_decoding(
    threads: usize,
    cache_type: CacheType,
    head: HeadType,
    name: &str,
    parameters: &SamplingParameters,
) {
    const PROMPT: usize = 60;
    const WARM_UP: usize = 4;
    const STEPS: usize = 400;
    let mut inference = load(threads, cache_type, head);
    let mut sampler = Sampler::new(parameters);
    let prompt: Vec<Row> = (0..PROMPT)
        .map(|position| Row {
            token: position as u32 * 37 % 1_000,
            slot: 0,
            position,
            logits: position + 1 == PROMPT,
        })
        .collect();
    inference.forward(&prompt).unwrap();

    let mut step = |position: usize| {
        let token =
            sampler.sample(inference.select(0, sampler.demand(), sampler.touched()).unwrap()).unwrap();
        sampler.accept(token);
        inference.forward(&[Row { token, slot: 0, position, logits: true }]).unwrap();
    };
    (PROMPT..PROMPT + WARM_UP).for_each(&mut step);
    for position in PROMPT + WARM_UP..PROMPT + STEPS {
        let (calls, size) = calls_of(|| step(position));
        let context =
            format!("{name}, {threads} threads, {cache_type:?} cache, {head:?} head, position {position}");
        assert_eq!(calls, 0, "{context}: calls of the allocator, the last for {size} bytes");
    }
}

/// The search in the 8-bit copy of an exact head, which models of this size do without.
fn check_search(threads: usize) {
    const ROWS: usize = 4_000;
    const COLUMNS: usize = 64;
    let mut noise = 1u32;
    let mut next = || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..ROWS * COLUMNS).map(|_| next()).collect();
    let (mut pool, isa) = (pool(threads), Isa::best());
    let exact = FloatMatrix::from_f32(&values, COLUMNS).unwrap();
    let copy = Int8Matrix::round(&mut pool, isa, &exact).unwrap();
    let head = Searchable { exact: &exact, copy: ShortCopy::Int8(&copy) };
    let mut x = Rows::with_capacity(1, COLUMNS).unwrap();
    x.set_rows(1);
    let mut search = Search::default();
    for step in 0..50 {
        x.row_mut(0).fill_with(&mut next);
        // More and more candidates.
        for demand in [Demand::Top(1 + step), Demand::Within(step as f32 / 25.0)] {
            let mut found = false;
            let (calls, size) = calls_of(|| {
                let touched = [7, 4_000_000_000].into_iter();
                found = search.run(&mut pool, isa, head, (&x, 0), demand, touched).unwrap();
            });
            assert!(found, "{demand:?} is worth a search");
            assert!(step == 0 || calls == 0, "{demand:?}: {calls} calls, the last for {size} bytes");
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

fn load(threads: usize, cache_type: CacheType, head: HeadType) -> Inference {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/nano64/model-i2_s.gguf");
    let checkpoint = Checkpoint::open(Path::new(path)).unwrap();
    let (mut pool, isa) = (pool(threads), Isa::best());
    let model = Model::load(&checkpoint, head, isa, &mut pool).unwrap();
    let options = InferenceOptions { context: 512, slots: 1, cache_type, max_rows: 64 };
    Inference::new(model, pool, isa, options).unwrap()
}
