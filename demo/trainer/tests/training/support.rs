//! Tiny models and made-up conversations.

use bitnet_demo_conversations::{Random, Turn};
use bitnet_demo_trainer::sequence::{Batch, Encoder, Sequence, Target};
use bitnet_demo_trainer::shape::Shape;
use bitnet_demo_trainer::vocabulary::Vocabulary;

/// Two layers with grouped queries.
pub(crate) const TINY: Shape = Shape {
    vocab: 300,
    hidden: 128,
    layers: 2,
    heads: 4,
    kv_heads: 2,
    ffn: 256,
    context: 256,
    rope_theta: 10_000.0,
    rms_eps: 1e-5,
};

/// Sequences of these lengths with arbitrary tokens, of which about half are to be predicted.
pub(crate) fn arbitrary_batch(vocab: usize, lengths: &[usize]) -> Batch {
    let mut random = Random::new(5);
    let mut batch = Batch::default();
    for &length in lengths {
        let mut token = || (random.bits() % vocab as u64) as u32;
        let tokens: Vec<u32> = (0..length).map(|_| token()).collect();
        let targets = (0..length).filter(|i| i % 2 == 1).map(|position| Target { position, token: token() });
        batch.push(&Sequence { targets: targets.collect(), tokens });
    }
    batch
}

/// Conversations of one to three turns.
pub(crate) fn conversations() -> Vec<Vec<Turn>> {
    let turn = |user: &str, assistant: &str| Turn {
        user: user.to_owned(),
        assistant: assistant.to_owned(),
        family: "test".to_owned(),
    };
    vec![
        vec![turn("hi", "Hello! What would you like to know?")],
        vec![turn("What is 12 + 7?", "12 plus 7 is 19."), turn(" And 3 more? ", "22, because 19 + 3 = 22.")],
        vec![
            turn(
                "Why is the sea salty?",
                "Rivers carry salt into it.\n\nThe water evaporates, but the salt stays.",
            ),
            turn("really", "(Yes.)"),
            turn("thanks — très bien 😀", "  You're welcome! "),
        ],
    ]
}

pub(crate) fn vocabulary() -> Vocabulary {
    let turns = conversations().into_iter().flatten();
    let texts: Vec<String> = turns.flat_map(|turn| [turn.user, turn.assistant]).collect();
    Vocabulary::train(&[texts.clone(), texts.clone(), texts].concat(), 300).unwrap()
}

pub(crate) fn encoder() -> Encoder {
    Encoder::new(&vocabulary()).unwrap()
}

/// All conversations in one batch.
pub(crate) fn batch(encoder: &Encoder) -> Batch {
    let mut batch = Batch::default();
    for turns in conversations() {
        batch.push(&encoder.sequence(&turns).unwrap());
    }
    batch
}
