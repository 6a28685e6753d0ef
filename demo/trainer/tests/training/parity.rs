//! What is trained is what the engine computes: the same tokens, the same logits.

use bitnet_demo_trainer::corpus::Lessons;
use bitnet_demo_trainer::export;
use bitnet_demo_trainer::network::{Network, Trace};
use bitnet_demo_trainer::quantize::Precision;
use bitnet_demo_trainer::sequence::{CHAT_TEMPLATE, Encoder, Target};
use bitnet_demo_trainer::shape::Shape;
use bitnet_demo_trainer::weights::{Weights, initial};
use bitnet_engine::bench::Decoder;
use bitnet_engine::chat_template::{ChatTemplate, Message};
use bitnet_engine::config::Config;
use bitnet_engine::tokenizer::Tokenizer;

use crate::support::{TINY, batch, conversations, vocabulary};

/// The engine with an exported file.
fn engine(bytes: Vec<u8>) -> Decoder {
    let config = Config::parse(["x", "--threads", "1", "--cache-type", "f32"]).unwrap();
    Decoder::from_bytes(&config, bytes).unwrap()
}

/// Both programs add in different orders. Where that moves an activation over a rounding boundary, its code differs by one, and all that
/// follows differs by some thousandths; everywhere else by less than a hundred-thousandth.
#[test]
fn the_engine_computes_the_same_logits_from_the_exported_file() {
    let vocabulary = vocabulary();
    let shape = Shape { vocab: vocabulary.tokens.len(), ..TINY };
    let network = Network::new(shape);
    let (mut close, mut all) = (0, 0);
    for seed in 0..8 {
        let mut master = initial(&network.layout, seed);
        for (i, weight) in master.iter_mut().enumerate() {
            *weight *= 1.0 + (i % 7) as f32 / 10.0;
        }
        let mut sequence = batch(&Encoder::new(&vocabulary).unwrap()).split(3).remove(2);
        sequence.targets = (0..sequence.tokens.len()).map(|position| Target { position, token: 0 }).collect();
        let weights = Weights::new(&network.layout, &master, Precision::Quantized);
        let mut trace = Trace::default();
        network.forward(&weights, &sequence, &mut trace);
        let ours = trace.logits();

        let bytes = export::gguf(&network.layout, &master, &vocabulary);
        let theirs = engine(bytes).logits_of(&sequence.tokens).unwrap().concat();
        let mean = theirs.iter().sum::<f32>() / theirs.len() as f32;
        let deviation = (theirs.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / theirs.len() as f32).sqrt();
        for (ours, theirs) in ours.chunks(shape.vocab).zip(theirs.chunks(shape.vocab)) {
            let differences = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs() / deviation);
            let worst = differences.fold(0.0, f32::max);
            println!("seed {seed}: {worst:.1e}");
            assert!(worst < 0.2, "seed {seed}: {worst}");
            close += usize::from(worst < 1e-4);
            all += 1;
        }
    }
    assert!(4 * close > all, "{close} of {all} positions agree to 1e-4");
}

/// The prompt that the engine would make of this conversation's last question, then the answer.
fn by_template(tokenizer: &Tokenizer, turns: &[bitnet_demo_conversations::Turn]) -> Vec<u32> {
    let template = ChatTemplate::select(None, Some(CHAT_TEMPLATE), tokenizer).unwrap();
    let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    let (last, before) = turns.split_last().unwrap();
    let mut messages: Vec<Message> = before
        .iter()
        .flat_map(|turn| [message("user", &turn.user), message("assistant", &turn.assistant)])
        .collect();
    messages.push(message("user", &last.user));
    let mut tokens = template.prompt(&messages, true, tokenizer).unwrap();
    tokens.extend(tokenizer.encode(&format!("{}<|eot_id|>", last.assistant.trim()), true).unwrap());
    tokens
}

#[test]
fn sequences_are_what_the_engine_makes_of_the_conversation() {
    let vocabulary = vocabulary();
    let (encoder, tokenizer) = (Encoder::new(&vocabulary).unwrap(), vocabulary.tokenizer().unwrap());
    for turns in conversations() {
        let sequence = encoder.sequence(&turns).unwrap();
        assert_eq!(sequence.tokens, by_template(&tokenizer, &turns));
        for target in &sequence.targets {
            assert_eq!(sequence.tokens[target.position + 1], target.token);
        }
        let last = sequence.last_answer_only();
        let wanted: Vec<u32> = last.targets.iter().map(|target| target.token).collect();
        let answer = turns.last().unwrap().assistant.trim();
        assert_eq!(tokenizer.decode(&wanted, true), format!("{answer}<|eot_id|>"));
    }
}

#[test]
fn the_whole_corpus_is_encoded_as_the_engine_does_from_the_exported_file() {
    let lessons = Lessons::load().unwrap();
    let vocabulary = lessons.vocabulary(Shape::DEMO.vocab).unwrap();
    let shape = Shape { vocab: vocabulary.tokens.len(), ..TINY };
    let network = Network::new(shape);
    let bytes = export::gguf(&network.layout, &initial(&network.layout, 1), &vocabulary);
    let engine = engine(bytes);
    let tokenizer = engine.tokenizer();
    let encoder = Encoder::new(&vocabulary).unwrap();
    for turns in lessons.conversations(7).take(3_000) {
        assert_eq!(encoder.sequence(&turns).unwrap().tokens, by_template(tokenizer, &turns));
    }
}
