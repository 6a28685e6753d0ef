//! Training learns, and does the same again.

use bitnet_demo_trainer::checkpoint::{self, Progress};
use bitnet_demo_trainer::corpus::Lessons;
use bitnet_demo_trainer::export;
use bitnet_demo_trainer::sequence::Encoder;
use bitnet_demo_trainer::shape::Shape;
use bitnet_demo_trainer::trainer::Trainer;

use crate::support::{TINY, batch, encoder, vocabulary};

/// Trains on the same few conversations; returns the loss at the end and the exported file.
fn train(seed: u64, steps: u64, threads: usize) -> (f64, Vec<u8>) {
    let (encoder, vocabulary) = (encoder(), vocabulary());
    let shape = Shape { vocab: vocabulary.tokens.len(), ..TINY };
    let batch = batch(&encoder);
    let parts = batch.split(2);
    let mut trainer = Trainer::new(shape, seed);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        for step in 0..steps {
            let rate = 0.004 * (1.0 - step as f32 / steps as f32);
            let of_lane = |lane: usize| Ok(parts.get(lane).cloned().map(Ok).into_iter());
            trainer.step_with((rate, 0.0), of_lane).unwrap();
        }
    });
    (trainer.loss(&batch), export::gguf(&trainer.network.layout, &trainer.master, &vocabulary))
}

#[test]
fn a_few_conversations_are_learned_by_heart() {
    let (loss, _) = train(1, 200, 2);
    assert!(loss < 0.05, "{loss}");
}

#[test]
fn the_same_seed_gives_the_same_file_on_any_number_of_threads() {
    let first = train(1, 6, 1);
    assert_eq!(first, train(1, 6, 1));
    assert_eq!(first, train(1, 6, 2));
    assert_eq!(first, train(1, 6, 3));
    assert_ne!(first, train(2, 6, 1));
}

#[test]
fn an_interrupted_training_goes_on_as_if_it_had_not_been() {
    let lessons = Lessons::load().unwrap();
    let vocabulary = lessons.vocabulary(400).unwrap();
    let encoder = Encoder::new(&vocabulary).unwrap();
    let shape = Shape { vocab: vocabulary.tokens.len(), context: 512, ..TINY };
    let steps = |trainer: &mut Trainer, count: usize| {
        for _ in 0..count {
            trainer.step(&lessons, &encoder, 1_000, (0.002, 0.1)).unwrap();
        }
    };
    let mut whole = Trainer::new(shape, 7);
    steps(&mut whole, 4);

    let path = std::env::temp_dir().join(format!("bitnet-demo-{}.train", std::process::id()));
    let mut first = Trainer::new(shape, 7);
    steps(&mut first, 2);
    let progress = Progress { seed: 7, total: 4, tokens: 2_000, milliseconds: 5 };
    checkpoint::save(&path, &first, &vocabulary, &progress).unwrap();
    let (mut second, kept, loaded) = checkpoint::load(&path, shape).unwrap();
    std::fs::remove_file(&path).unwrap();
    steps(&mut second, 2);
    assert_eq!((kept, loaded), (vocabulary, progress));
    assert!(second.master == whole.master && second.optimizer == whole.optimizer);
}
