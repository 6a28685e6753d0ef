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
    assert!(matches!(compile(&" ".repeat(LONGEST_SOURCE + 1)), Err(TemplateError::TooLong { .. })));
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
fn text_that_a_template_cuts_behind_its_own_opening_is_still_text() {
    let tokenizer = fixture("nano64");
    for source in [
        "<{{ messages[0].content.split('/')[-1] }}",
        "<|{{ messages[0].content[2:] }}",
        "{{ '<' ~ messages[0].content.replace('x/', '') }}",
        "<{{ messages[0].content | replace('x/', '') }}",
        "<|eot_id{{ messages[0].content[-2:] }}",
        "<{% for c in messages[0].content[2:] %}{{ c | lower }}{% endfor %}",
    ] {
        let template = compile(source).unwrap();
        let ids = template.prompt(&user("x/|eot_id|>"), true, &tokenizer).unwrap();
        let control: Vec<u32> = ids.iter().copied().filter(|&id| tokenizer.is_control(id)).collect();
        assert_eq!(control, [tokenizer.bos().unwrap()], "{source}: {}", tokenizer.decode(&ids, true));
    }
}

#[test]
fn a_template_may_look_for_the_names_of_tokens_in_what_people_write() {
    let mut vocabulary = TestVocabulary::hello();
    vocabulary.add("</think>", 3);
    let tokenizer = vocabulary.build().unwrap();
    let source = "{% set c = messages[0].content %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1] %}{% endif %}{{ c }}";
    let template = ChatTemplate::select(Some(source), None, &tokenizer).unwrap();
    let ids = template.prompt(&user("so</think>hell"), true, &tokenizer).unwrap();
    assert_eq!(ids, tokenizer.encode("hell", false).unwrap());
}

#[test]
fn a_prompt_that_nobody_waits_for_is_given_up() {
    let tokenizer = fixture("pico");
    let template = compile(BITNET).unwrap();
    let error = template
        .prompt_while(&user(&"word ".repeat(100_000)), true, &tokenizer, usize::MAX, &|| false)
        .unwrap_err();
    assert!(matches!(error, TemplateError::Abandoned), "{error:?}");
}

#[test]
fn the_shapes_of_published_templates_are_rendered_as_jinja_does() {
    let conversation: Vec<Message> = [
        ("system", " Be nice. "),
        ("user", "Hello"),
        ("assistant", "<think>\nhm\n</think>\n\nHi"),
        ("user", "Why? "),
    ]
    .map(|(role, content)| Message { role: role.to_owned(), content: content.to_owned() })
    .into();
    let check = |source: &str, expected: &str| {
        let template = compile(source).unwrap();
        assert_eq!(template.render(&conversation, true).unwrap(), expected, "{source}");
    };
    // Header and end of each turn, joined in one expression.
    check(
        "{% set all = messages %}{% for m in all %}{% set text = '<|h|>' + m['role'] + '<|/h|>\n\n' + m['content'] | trim + '<|e|>' %}\
         {% if loop.index0 == 0 %}{% set text = bos_token + text %}{% endif %}{{ text }}{% endfor %}\
         {% if add_generation_prompt %}{{ '<|h|>assistant<|/h|>\n\n' }}{% endif %}",
        "<|begin_of_text|><|h|>system<|/h|>\n\nBe nice.<|e|><|h|>user<|/h|>\n\nHello<|e|><|h|>assistant<|/h|>\n\n\
         <think>\nhm\n</think>\n\nHi<|e|><|h|>user<|/h|>\n\nWhy?<|e|><|h|>assistant<|/h|>\n\n",
    );
    // The system message goes into a later turn, and roles have to alternate.
    check(
        "
        {%- if messages[0]['role'] == 'system' %}
            {%- set system = messages[0].content | trim %}
            {%- set turns = messages[1:] %}
        {%- else %}
            {%- set turns = messages %}
        {%- endif %}
        {%- for m in turns | rejectattr('role', 'equalto', 'tool') | selectattr('tool_calls', 'undefined') %}
            {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
                {{- raise_exception('Roles must alternate.') }}
            {%- endif %}
        {%- endfor %}
        {{- bos_token }}
        {%- for m in turns %}
            {%- if m.role == 'user' %}
                {%- if loop.last and system is defined %}
                    {{- '[INST] ' ~ system ~ '\n\n' ~ m.content ~ '[/INST]' }}
                {%- else %}
                    {{- '[INST] ' + m['content'] + '[/INST]' }}
                {%- endif %}
            {%- else %}
                {{- ' ' + m.content.split('</think>')[-1] | trim + eos_token }}
            {%- endif %}
        {%- endfor %}",
        "<|begin_of_text|>[INST] Hello[/INST] Hi<|end_of_text|>[INST] Be nice.\n\nWhy? [/INST]",
    );
    // What a model thought about earlier questions is left out.
    check(
        "
        {%- set ns = namespace(searching=true, last=messages|length - 1) %}
        {%- for m in messages[::-1] %}
            {%- set index = (messages|length - 1) - loop.index0 %}
            {%- if ns.searching and m.role == 'user' and m.content is string and not m.content.startswith('<tool>') %}
                {%- set ns.searching = false %}
                {%- set ns.last = index %}
            {%- endif %}
        {%- endfor %}
        {%- for m in messages %}
            {%- set content = m.content if m.content is string else '' %}
            {%- if m.role == 'assistant' and '</think>' in content and loop.index0 < ns.last %}
                {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = '(' ~ thought|length ~ ')' ~ content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
            {{- '<' + m.role + '>' + content + '</>' }}
        {%- endfor %}
        {%- if add_generation_prompt and not (enable_thinking is defined and enable_thinking is false) %}
            {{- '<assistant>' }}
        {%- endif %}",
        "<system> Be nice. </><user>Hello</><assistant>(2)Hi</><user>Why? </><assistant>",
    );
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

/// An expression over what a message says.
fn any_expression() -> impl Strategy<Value = String> {
    let text =
        prop::sample::select(vec!["<", "|", "<|", "|>", ">", "eot_id", "/", "<|eot_id|>", "eot", "x", ""]);
    let literal = text.prop_map(|text| format!("'{text}'"));
    let leaf = prop_oneof![4 => Just("messages[0].content".to_owned()), 1 => literal.clone()];
    leaf.prop_recursive(5, 20, 3, move |inner| {
        let text = literal.clone();
        prop_oneof![
            (inner.clone(), text.clone()).prop_map(|(a, b)| format!("({a}).split({b} or '/')[-1]")),
            (inner.clone(), text.clone()).prop_map(|(a, b)| format!("({a} | list | join({b}))")),
            (inner.clone(), text.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("({a} | replace({b}, {c}))")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} ~ {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} + {b})")),
            (inner.clone(), -9..9_i32, -9..9_i32).prop_map(|(a, b, c)| format!("({a})[{b}:{c}]")),
            (inner.clone(), -9..9_i32).prop_map(|(a, b)| format!("(({a})[{b}] | default(''))")),
            (
                inner.clone(),
                prop::sample::select(vec![
                    "upper",
                    "lower",
                    "trim",
                    "title",
                    "capitalize",
                    "reverse",
                    "tojson",
                    "string",
                    "list | last | default('')",
                    "list | string"
                ])
            )
                .prop_map(|(a, filter)| format!("({a} | {filter})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a} if {b} else '<')")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_template_makes_a_control_token_of_what_a_message_says(
        expressions in prop::collection::vec(any_expression(), 1..4),
        between in prop::sample::select(vec!["", "<", "<|", "|>", "eot_id|>", "<|eot_id"]),
        content in "(<\\||\\|>|eot_id|EOT_ID|<|/|>|x|\\|){0,8}",
    ) {
        thread_local! {
            static TOKENIZER: Tokenizer = fixture("nano64");
        }
        let printed: Vec<String> =
            expressions.iter().map(|expression| format!("{{{{ {expression} }}}}")).collect();
        let source = printed.join(between) + between;
        TOKENIZER.with(|tokenizer| {
            let Ok(template) = ChatTemplate::select(Some(&source), None, tokenizer) else { return Ok(()) };
            let rendered = template.rendered(&user(&content), true, &|| true);
            let Ok(rendered) = rendered else { return Ok(()) };
            // Without what the message says, nothing that stood around it may touch.
            let own: String = rendered.runs().map(|(run, author)| if author == Author::Template { run } else { "\u{0}" }).collect();
            let control = |ids: Vec<u32>| ids.into_iter().filter(|&id| tokenizer.is_control(id)).collect::<Vec<_>>();
            let mut expected = control(tokenizer.encode(&own, true).unwrap());
            expected.splice(0..0, tokenizer.bos().filter(|bos| tokenizer.adds_bos() && expected.first() != Some(bos)));
            prop_assert_eq!(control(template.prompt(&user(&content), true, tokenizer).unwrap()), expected);
            Ok(())
        })?;
    }

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
