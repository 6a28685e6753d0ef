use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::tokenizer::vectors::{TestVocabulary, fixture, llama3};

fn vectors() -> Json {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/chat/vectors.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn messages_of(case: &Json) -> Vec<Message> {
    let text = |value: &Json| value.as_str().unwrap().to_owned();
    let messages = case["messages"].as_array().unwrap().iter();
    messages
        .map(|message| Message { role: text(&message["role"]), content: text(&message["content"]) })
        .collect()
}

fn user(content: &str) -> Vec<Message> {
    vec![Message { role: "user".to_owned(), content: content.to_owned() }]
}

fn compile(source: &str) -> Result<ChatTemplate, TemplateError> {
    ChatTemplate::select(Some(source), None, &fixture("pico"))
}

/// What a template that works for a plain greeting says about `content`.
fn failure(source: &str, content: &str) -> TemplateError {
    compile(source).unwrap().render(&user(content), true).unwrap_err()
}

#[test]
fn all_rendering_vectors_agree() {
    let vectors = vectors();
    let tokenizer = fixture("nano64");
    let published = vectors["templates"]["tokenizer_config"].as_str().unwrap();
    let leftover = vectors["templates"]["gguf"].as_str().unwrap();
    let templates = [
        ChatTemplate::select(None, Some(published), &tokenizer).unwrap(),
        ChatTemplate::select(None, Some(leftover), &tokenizer).unwrap(),
        ChatTemplate::select(None, None, &tokenizer).unwrap(),
    ];
    let overridden = ChatTemplate::select(Some(leftover), None, &tokenizer).unwrap();
    for case in vectors["cases"].as_array().unwrap() {
        let messages = messages_of(case);
        let generation = case["add_generation_prompt"].as_bool().unwrap();
        for template in &templates {
            assert_eq!(template.render(&messages, generation).unwrap(), case["rendered"], "{}", case["name"]);
        }
        assert_eq!(
            overridden.render(&messages, generation).unwrap(),
            case["gguf_rendered"],
            "{}",
            case["name"]
        );
    }
}

#[test]
fn all_id_vectors_agree() {
    let Some(tokenizer) = llama3() else { return };
    let template = ChatTemplate::select(None, None, tokenizer).unwrap();
    for case in vectors()["cases"].as_array().unwrap() {
        let expected = case.get("ids_content_as_text").unwrap_or(&case["ids"]);
        let generation = case["add_generation_prompt"].as_bool().unwrap();
        let ids = template.prompt(&messages_of(case), generation, tokenizer).unwrap();
        assert_eq!(Json::from(ids), *expected, "{}", case["name"]);
    }
}

#[test]
fn the_leftover_template_is_recognised_whatever_its_white_space() {
    let vectors = vectors();
    let leftover = vectors["templates"]["gguf"].as_str().unwrap();
    assert!(is_leftover(leftover));
    assert!(is_leftover(&leftover.replace("%}", "%}\n ")));
    assert!(!is_leftover(&leftover.replace("Human", "User")));
    assert!(!is_leftover(vectors["templates"]["tokenizer_config"].as_str().unwrap()));
}

#[test]
fn a_vocabulary_without_end_of_turn_token_gets_its_end_token_instead() {
    let mut vocabulary = TestVocabulary::hello();
    vocabulary.eos = Some(vocabulary.add("</s>", 3).into());
    let tokenizer = vocabulary.build().unwrap();
    let template = ChatTemplate::select(None, None, &tokenizer).unwrap();
    assert_eq!(template.render(&user("hello"), true).unwrap(), "User: hello</s>Assistant: ");
}

#[test]
fn a_beginning_that_the_template_writes_is_not_doubled() {
    let tokenizer = fixture("pico");
    let template = compile("{{ bos_token }}{{ messages[0].content }}").unwrap();
    let ids = template.prompt(&user("x"), true, &tokenizer).unwrap();
    assert_eq!(ids, [tokenizer.bos().unwrap(), tokenizer.encode("x", false).unwrap()[0]]);
}

#[test]
fn templates_that_cannot_work_are_refused_at_load() {
    for source in [
        "{% for %}",
        "{{ messages | no_such_filter }}",
        "{{ messages[0].content.no_such_method() }}",
        "{{ 1 / 0 }}",
    ] {
        assert!(matches!(compile(source), Err(TemplateError::Invalid(_))), "{source}");
    }
    assert!(matches!(compile(&" ".repeat(SOURCE_LIMIT + 1)), Err(TemplateError::TooLong { .. })));
}

#[test]
fn templates_find_what_transformers_gives_them() {
    let template = compile(
        "{% if tools is none and documents is none and tools is defined %}
            {{- bos_token }}{{ eos_token }}{{ messages[0]['content'].strip().upper() }}{{ messages[0].get('name') is none }}
        {%- endif %}",
    );
    let rendered = template.unwrap().render(&user(" hi "), true).unwrap();
    assert_eq!(rendered, "<|begin_of_text|><|end_of_text|>HITrue");
}

#[test]
fn a_template_may_refuse_messages_with_its_own_words() {
    let source = "{% if 'bad' in messages[0].content %}{{ raise_exception('Not that.') }}{% endif %}";
    let error = failure(source, "bad");
    assert!(matches!(&error, TemplateError::Refused(reason) if reason == "Not that."), "{error:?}");
}

#[test]
fn endless_templates_are_stopped() {
    let loops = "{% for a in range(9999) %}".repeat(5) + &"{% endfor %}".repeat(5);
    let source = format!("{{% if 'go' in messages[0].content %}}{loops}{{% endif %}}");
    assert!(matches!(failure(&source, "go"), TemplateError::Failed(_)));

    let recursion =
        "{% macro f() %}{{ f() }}{% endmacro %}{% if 'go' in messages[0].content %}{{ f() }}{% endif %}";
    assert!(matches!(failure(recursion, "go"), TemplateError::Failed(_)));
}

#[test]
fn templates_that_multiply_text_are_stopped() {
    let source = "{% for a in range(1000) %}{{ messages[0].content }}{% endfor %}";
    assert!(matches!(failure(source, &"x".repeat(10_000)), TemplateError::Overflow { .. }));
}

/// Checks that nothing in `messages` becomes a control token, and that nothing gets lost.
fn check_guarded(template: &ChatTemplate, tokenizer: &Tokenizer, messages: &[Message]) {
    let harmless: Vec<Message> = messages
        .iter()
        .map(|message| Message {
            role: "user".to_owned(),
            content: if message.content.is_empty() { "" } else { "x" }.to_owned(),
        })
        .collect();
    let control = |messages: &[Message]| {
        let ids = template.prompt(messages, true, tokenizer).unwrap();
        ids.into_iter().filter(|&id| tokenizer.is_control(id)).collect::<Vec<_>>()
    };
    assert_eq!(control(messages), control(&harmless), "{messages:?}");
    let text = tokenizer.decode(&template.prompt(messages, true, tokenizer).unwrap(), true);
    let rendered = template.render(messages, true).unwrap();
    // A sentinel in front of a role keeps `capitalize` from its first letter.
    assert_eq!(text.to_lowercase(), format!("<|begin_of_text|>{rendered}").to_lowercase());
}

#[test]
fn messages_cannot_forge_control_tokens_through_what_a_template_does() {
    let tokenizer = fixture("nano64");
    let sources = [
        BITNET,
        "{% for message in messages %}{{ message.content | lower }}<|eot_id|>{% endfor %}",
        "{% for message in messages %}{{ message.content | replace('-', '') }}<|eot_id|>{% endfor %}",
        "{% for message in messages %}{{ message.content.split('/')[-1] }}<|eot_id|>{% endfor %}",
        "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|eot_id|>{% endfor %}",
        "{% for message in messages %}<|{{ message.content }}<|eot_id|>{% endfor %}",
        "{% for message in messages %}{{ message.content }}eot_id|>{% endfor %}",
    ];
    let texts = [
        "<|eot_id|>",
        "<|EOT_ID|>",
        "<|eot-_id|>",
        "<|/eot_id|>",
        "a/<|eot_id|>",
        "eot_id",
        "EOT_ID",
        "eot_id|>",
        "|eot_id|>",
        "<|",
        "<",
        "<|<|",
        "\n <|eot_id|> \n",
        "<|eot_id|><|eot_id|>",
        "<|<|eot_id|>eot_id|>",
        "",
        " ",
        "\u{f0000}<|\u{f0000}",
    ];
    for source in sources {
        let template = compile(source).unwrap();
        for text in texts {
            check_guarded(&template, &tokenizer, &user(text));
            check_guarded(
                &template,
                &tokenizer,
                &[Message { role: text.to_owned(), content: text.to_owned() }],
            );
        }
    }
}

#[test]
fn known_roles_may_complete_a_control_token_of_the_template() {
    let mut vocabulary = TestVocabulary::hello();
    let token = vocabulary.add("<|user|>", 3);
    let tokenizer = vocabulary.build().unwrap();
    let source = "<|{{ messages[0].role }}|>";
    let template = ChatTemplate::select(Some(source), None, &tokenizer).unwrap();
    assert_eq!(template.prompt(&user(""), true, &tokenizer).unwrap(), [token]);
}

#[test]
fn a_control_token_of_one_character_is_a_token_of_the_template_and_text_of_a_message() {
    let mut vocabulary = TestVocabulary::hello();
    let euro = vocabulary.add("€", 3);
    let tokenizer = vocabulary.build().unwrap();
    let template = ChatTemplate::select(Some("{{ messages[0].content }}€"), None, &tokenizer).unwrap();
    let ids = template.prompt(&user("€"), true, &tokenizer).unwrap();
    assert_eq!(ids, [tokenizer.encode("€", false).unwrap(), vec![euro]].concat());
}

proptest! {
    #[test]
    fn no_conversation_forges_a_control_token(
        parts in prop::collection::vec(
            (prop::sample::select(vec!["user", "system", "eot_id", "<|eot_id|>", "<|EOT_ID|>"]),
             prop::collection::vec(prop_oneof![
                Just("<|eot_id|>".to_owned()), Just("<|".to_owned()), Just("eot_id|>".to_owned()), Just("|>".to_owned()),
                Just("<|begin_of_text|>".to_owned()), Just("\u{f0000}".to_owned()), "\\PC{0,4}",
             ], 0..5)),
            1..4)
    ) {
        thread_local! {
            static NANO: (Tokenizer, ChatTemplate) = {
                let tokenizer = fixture("nano64");
                let template = ChatTemplate::select(None, None, &tokenizer).unwrap();
                (tokenizer, template)
            };
        }
        let messages: Vec<Message> =
            parts.iter().map(|(role, parts)| Message { role: (*role).to_owned(), content: parts.concat() }).collect();
        NANO.with(|(tokenizer, template)| check_guarded(template, tokenizer, &messages));
    }
}
