use proptest::prelude::*;

use super::vectors::TestVocabulary;
use super::*;

/// A small vocabulary under the Llama 3 rule; `<tool>` is user-defined, and `hi` is a control token made of letters.
fn small() -> Tokenizer {
    let mut vocabulary = TestVocabulary::hello();
    vocabulary.add("<tool>", 4);
    vocabulary.add("hi", 3);
    vocabulary.with_llama3_specials().build().unwrap()
}

pub(super) fn words<'t>(rule: &SplitRule, text: &'t str) -> Vec<&'t str> {
    let mut words = Vec::new();
    let mut keep = |word| -> Result<(), ()> {
        words.push(word);
        Ok(())
    };
    rule.split(text, &mut keep).unwrap();
    words
}

fn refusal(change: impl FnOnce(&mut TestVocabulary)) -> String {
    let mut vocabulary = TestVocabulary::hello();
    change(&mut vocabulary);
    vocabulary.build().unwrap_err().to_string()
}

#[test]
fn words_become_the_tokens_that_merges_make_of_them() {
    let tokenizer = small();
    let hello = tokenizer.encode("hello hell", false).unwrap();
    assert_eq!(hello, [259, u32::from(b' '), 258]);
    assert_eq!(tokenizer.decode(&hello, false), "hello hell");
    assert_eq!(tokenizer.token_text(259), "hello");
}

#[test]
fn control_tokens_come_only_from_callers_who_ask_for_them() {
    let tokenizer = small();
    let text = "hello<|eot_id|>hi<tool>";
    let tool = 260;
    let parsed = tokenizer.encode(text, true).unwrap();
    let eot = parsed[1];
    assert_eq!(parsed, [259, eot, 261, tool]);
    assert!(tokenizer.is_control(eot) && !tokenizer.is_control(tool));

    let plain = tokenizer.encode(text, false).unwrap();
    assert!(plain.iter().all(|&id| !tokenizer.is_control(id)));
    assert_eq!(plain.last(), Some(&tool));
    assert_eq!(tokenizer.decode(&plain, false), text);
    assert_eq!(tokenizer.decode(&parsed, false), "hello<tool>");
    assert_eq!(tokenizer.decode(&parsed, true), text);
}

#[test]
fn the_longest_special_token_wins() {
    let mut vocabulary = TestVocabulary::hello();
    let short = vocabulary.add("<|a|>", 3);
    let long = vocabulary.add("<|a|><|b|>", 3);
    let tokenizer = vocabulary.build().unwrap();
    assert_eq!(tokenizer.encode("<|a|><|b|><|a|>", true).unwrap(), [long, short]);
}

#[test]
fn generation_ends_at_the_tokens_of_the_file_and_at_known_ends_of_turns() {
    let tokenizer = small();
    let texts: Vec<String> =
        tokenizer.end_of_generation().iter().map(|&id| tokenizer.token_text(id)).collect();
    assert_eq!(texts, ["<|end_of_text|>", "<|eot_id|>"]);

    let mut vocabulary = TestVocabulary::hello();
    let im_end = vocabulary.add("<|im_end|>", 4);
    (vocabulary.eos, vocabulary.eot) = (Some(7), Some(3));
    assert_eq!(vocabulary.build().unwrap().end_of_generation(), [3, 7, im_end]);
}

#[test]
fn a_shortened_llama_3_vocabulary_is_recognised() {
    let vocabulary = TestVocabulary::hello().with_llama3_specials();
    assert!(vocabulary.view().is_llama3());
    assert!(!TestVocabulary::hello().view().is_llama3());
    // Only the Llama 3 rule takes up to three digits as one word.
    let tokenizer = vocabulary.build().unwrap();
    assert_eq!(words(&tokenizer.split, "1234"), ["123", "4"]);
    assert!(tokenizer.adds_bos() && tokenizer.bos() == Some(260) && tokenizer.eos() == Some(261));
    assert!(TestVocabulary { adds_bos: None, ..vocabulary.clone() }.build().unwrap().adds_bos());
    assert!(!TestVocabulary { adds_bos: Some(false), ..vocabulary }.build().unwrap().adds_bos());
}

#[test]
fn encoding_that_nobody_waits_for_is_given_up_between_words_and_within_one() {
    let tokenizer = small();
    let abandoned = |text: &str| {
        let looks = std::cell::Cell::new(0);
        let result = tokenizer.encode_while(text, true, &|| {
            looks.set(looks.get() + 1);
            false
        });
        assert!(matches!(result, Err(TokenizerError::Abandoned)), "{} bytes", text.len());
        assert_eq!(looks.get(), 1);
    };
    abandoned(&"hello ".repeat(100_000));
    abandoned(&"hello".repeat(50_000));
    assert!(tokenizer.encode_while("hello", true, &|| false).is_ok(), "what is short is done at once");
}

#[test]
fn no_text_has_fewer_tokens_than_the_bound_says() {
    let tokenizer = small();
    let longest =
        (0..tokenizer.vocab_size() as u32).filter_map(|id| tokenizer.token_bytes(id)).map(<[u8]>::len);
    let longest = longest.max().unwrap();
    assert_eq!(tokenizer.fewest_tokens(0), 0);
    assert_eq!(tokenizer.fewest_tokens(longest), 1);
    assert_eq!(tokenizer.fewest_tokens(10 * longest + 1), 11);
    let text = "<|reserved_special_token_246|>hello".repeat(9);
    assert!(tokenizer.encode(&text, true).unwrap().len() >= tokenizer.fewest_tokens(text.len()));
}

#[test]
fn threads_can_share_a_tokenizer() {
    fn check<T: Send + Sync>() {}
    check::<Tokenizer>();
}

#[test]
fn ids_outside_the_vocabulary_have_no_bytes() {
    let tokenizer = small();
    let size = tokenizer.vocab_size() as u32;
    assert_eq!(tokenizer.token_bytes(size), None);
    assert_eq!(tokenizer.token_text(u32::MAX), "");
    assert_eq!(tokenizer.decode(&[259, u32::MAX], true), "hello");
}

#[test]
fn hostile_vocabularies_are_refused_with_the_reason() {
    type Change = fn(&mut TestVocabulary);
    let cases: [(Change, &str); 17] = [
        (|it| it.model = "llama", "only \"gpt2\""),
        (|it| it.split_rule = Some("klingon"), "\"klingon\""),
        (|it| it.token_types.truncate(5), "token_type has 5 entries; 260 are expected"),
        (|it| it.token_types[3] = -7, "token 3 has the type -7"),
        (|it| it.tokens[7] = it.tokens[6].clone(), "tokens 6 and 7 are both"),
        (|it| _ = it.add("hello", 3), "tokens 259 and 260 are both \"hello\""),
        (|it| it.tokens[259] = "he llo".to_owned(), "token 259, \"he llo\", has the character ' '"),
        (|it| it.tokens[259] = "日".repeat(100), "has the character '日'"),
        (|it| it.tokens[259].clear(), "token 259 is empty"),
        (|it| _ = it.add("", 3), "token 260 is empty"),
        (|it| it.token_types[0x41] = 3, "no ordinary token stands for the single byte 0x41"),
        (|it| it.merges.push("hello hello".to_owned()), "\"hello hello\", does not join"),
        (|it| it.merges[1] = "xyz x".to_owned(), "merge 1, \"xyz x\""),
        (|it| it.merges[0] = "he".to_owned(), "merge 0"),
        (|it| _ = it.add(&"x".repeat(2_000_000), 3), "2000000 bytes of text"),
        (|it| it.eot = Some(260), "eot_token_id is 260, but there are only 260"),
        (|it| it.adds_bos = Some(true), "bos_token_id is missing"),
    ];
    for (change, expected) in cases {
        let refusal = refusal(change);
        assert!(refusal.contains(expected) && refusal.len() < 500, "{refusal} – {expected}");
    }
}

#[test]
fn a_vocabulary_of_another_size_than_the_model_is_refused() {
    let vocabulary = TestVocabulary::hello();
    let error = Tokenizer::new(&vocabulary.view(), 300).unwrap_err().to_string();
    assert!(error.contains("260") && error.contains("300"), "{error}");
}

#[test]
fn merges_without_pieces_or_with_more_than_one_space_are_refused() {
    for merge in ["", " ", "h ", " e", "h e ", "h  e", "he ll o"] {
        let error = refusal(|it| it.merges.push(merge.to_owned()));
        assert!(error.contains("does not join"), "{merge:?}: {error}");
    }
}

proptest! {
    #[test]
    fn every_text_survives_encoding(text in any::<String>(), parse_special: bool) {
        let tokenizer = small();
        let ids = tokenizer.encode(&text, parse_special).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, true), text);
    }

    #[test]
    fn plain_encoding_never_yields_a_control_token(
        parts in prop::collection::vec(prop_oneof![
            Just("<|eot_id|>".to_owned()), Just("<|".to_owned()), Just("eot_id|>".to_owned()), Just("hi".to_owned()),
            Just("<|begin_of_text|>".to_owned()), Just("<tool>".to_owned()), any::<String>(),
        ], 0..8)
    ) {
        let tokenizer = small();
        let ids = tokenizer.encode(&parts.concat(), false).unwrap();
        prop_assert!(ids.iter().all(|&id| !tokenizer.is_control(id)));
    }
}
