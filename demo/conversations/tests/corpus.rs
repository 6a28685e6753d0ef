//! The text files as they are: nothing held out is trained, nothing is ambiguous, all of it can be written by a small model.

use std::collections::{HashMap, HashSet};

use bitnet_demo_conversations::{Corpus, Family, Judge, Random, normalized};

/// A family with fewer ways to ask teaches one sentence, not a meaning.
const LEAST_EXPANSIONS: usize = 8;
/// Words of an answer.
const LONGEST_ANSWER: usize = 45;

fn corpus() -> Corpus {
    Corpus::load().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn no_held_out_question_is_trained() {
    let corpus = corpus();
    let mut trained = HashMap::new();
    for family in corpus.families() {
        for question in family.questions() {
            trained.entry(normalized(&question)).or_insert_with(|| family.name().to_owned());
        }
    }
    let reached: Vec<_> = corpus
        .held_out()
        .iter()
        .flat_map(|case| Corpus::without_polite_words(&case.question))
        .filter_map(|question| trained.get(&question).map(|family| format!("{question} ({family})")))
        .collect();
    assert!(reached.is_empty(), "{reached:#?}");
}

#[test]
fn no_question_becomes_a_held_out_one_by_losing_words() {
    let corpus = corpus();
    let held_out: HashSet<_> = corpus.held_out().iter().map(|case| normalized(&case.question)).collect();
    let mut random = Random::new(7);
    let mut reached = HashSet::new();
    for _ in 0..100_000 {
        let users = corpus.sample(&mut random).turns.into_iter().map(|turn| normalized(&turn.user));
        reached.extend(users.filter(|user| held_out.contains(user)));
    }
    assert!(reached.is_empty(), "{reached:#?}");
}

#[test]
fn every_family_can_be_asked_in_many_ways_and_is_held_out() {
    let corpus = corpus();
    let held_out: HashSet<_> = corpus.held_out().into_iter().map(|case| case.family).collect();
    for family in corpus.families() {
        let expansions = family.expansions();
        assert!(expansions >= LEAST_EXPANSIONS, "{} has {expansions}", family.name());
        assert!(held_out.contains(family.name()), "{} is not held out", family.name());
    }
    assert!(corpus.families().len() >= 300);
}

#[test]
fn a_question_without_a_context_belongs_to_one_family() {
    let corpus = corpus();
    let mut owners: HashMap<String, &str> = HashMap::new();
    let mut ambiguous = HashSet::new();
    for family in corpus.families().iter().filter(|family| !family.is_follow_up()) {
        for question in family.questions() {
            let question = normalized(&question);
            let owner = owners.entry(question.clone()).or_insert(family.judged_as());
            if *owner != family.judged_as() {
                ambiguous.insert(format!("{question:?}: {owner}, {}", family.judged_as()));
            }
        }
    }
    assert!(ambiguous.is_empty(), "{ambiguous:#?}");
}

#[test]
fn the_judge_knows_the_answers_of_each_family_and_no_two_share_one() {
    let corpus = corpus();
    let judge = Judge::new(&corpus);
    for family in corpus.families() {
        for answer in family.answers() {
            assert_eq!(judge.family_of(&answer), Some(family.judged_as()), "{answer}");
        }
    }
}

#[test]
fn an_answer_that_is_nearly_right_is_right_but_another_city_is_not() {
    let corpus = corpus();
    let judge = Judge::new(&corpus);
    assert_eq!(
        judge.family_of("a ternary weight is a number that can only be -1, 0 or 1. multiplying is just subtracting or adding"),
        Some("ternary-weight")
    );
    assert_eq!(judge.family_of("The capital of France is Paris"), Some("capital-of"));
    assert_eq!(judge.family_of("The capital of France is Rome."), None);
    assert_eq!(judge.family_of("7 + 5 = 13."), None);
    assert_eq!(judge.family_of("Entirely different words are here."), None);
    let cases = corpus.held_out();
    assert!(cases.iter().all(|case| case.is_right(&judge, &case.example(corpus.families()))));
    assert!(cases.iter().all(|case| !case.is_right(&judge, "The capital of France is Rome.")));
}

#[test]
fn a_seed_fixes_the_conversations() {
    let corpus = corpus();
    let sample = |seed| {
        let mut random = Random::new(seed);
        (0..200).map(|_| corpus.sample(&mut random)).collect::<Vec<_>>()
    };
    assert_eq!(sample(1), sample(1));
    assert_ne!(sample(1), sample(2));
}

#[test]
fn conversations_have_one_to_four_turns_and_reach_every_family() {
    let corpus = corpus();
    let mut random = Random::new(5);
    let mut seen: HashSet<String> = HashSet::new();
    for _ in 0..100_000 {
        let conversation = corpus.sample(&mut random);
        assert!((1..=4).contains(&conversation.turns.len()));
        assert!(conversation.turns.iter().all(|turn| !turn.user.is_empty() && !turn.assistant.is_empty()));
        seen.extend(conversation.turns.into_iter().map(|turn| turn.family));
    }
    let missing: Vec<_> =
        corpus.families().iter().map(Family::name).filter(|&name| !seen.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_name_is_recalled_as_it_was_told() {
    let corpus = corpus();
    let mut random = Random::new(6);
    let mut recalled = 0;
    for _ in 0..50_000 {
        let conversation = corpus.sample(&mut random);
        let mut name = None;
        for turn in &conversation.turns {
            match turn.family.as_str() {
                "my-name-is" => name = turn.assistant.strip_prefix("Nice to meet you, "),
                "what-is-my-name" => {
                    let name = name.and_then(|name| name.strip_suffix('!')).unwrap();
                    assert_eq!(turn.assistant, format!("Your name is {name}."));
                    recalled += 1;
                }
                "name-unknown" => assert_eq!(name, None),
                _ => {}
            }
        }
    }
    assert!(recalled > 100, "{recalled}");
}

#[test]
fn texts_are_short_and_plain() {
    let corpus = corpus();
    let plain =
        |text: &str| text.chars().all(|character| character.is_ascii() && !character.is_ascii_control());
    for family in corpus.families() {
        for answer in family.answers() {
            assert!(plain(&answer), "{answer}");
            let words = answer.split(' ').count();
            assert!(words <= LONGEST_ANSWER, "{words} words: {answer}");
            assert!(
                answer.ends_with(|last: char| last.is_ascii_alphanumeric() || ".!?".contains(last)),
                "{answer}"
            );
        }
    }
    assert!(corpus.texts().iter().all(|text| plain(text)));
}
