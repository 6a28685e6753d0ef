use super::*;

fn render_with(
    source: &str,
    content: &str,
    memory: u64,
    wanted: &dyn Fn() -> bool,
) -> Result<String, Failure> {
    let block = parse(source)?;
    let meter = Meter::new(320_000_000, memory, wanted);
    let text = |text: &str, author| Value::text(text, author, &meter).unwrap();
    let entries = [("role", "user", Author::Template), ("content", content, Author::Message)];
    let entries = entries.map(|(name, value, author)| (text(name, Author::Template), text(value, author)));
    let message = Value::map(entries.into(), &meter).unwrap();
    let variables = vec![
        ("messages", Value::list(vec![message.clone(), message], &meter).unwrap()),
        ("content", text(content, Author::Message)),
    ];
    let rendered = render(&block, variables, 1 << 20, &meter)?;
    // In brackets what a message wrote.
    let runs = rendered.runs().map(|(run, author)| match author {
        Author::Template => run.to_owned(),
        Author::Message => format!("⟨{run}⟩"),
    });
    Ok(runs.collect())
}

fn rendered(source: &str, content: &str) -> String {
    render_with(source, content, 16 << 20, &|| true).unwrap_or_else(|failure| panic!("{source}: {failure:?}"))
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (source, expected) in cases {
        assert_eq!(rendered(source, "a b"), *expected, "{source}");
    }
}

#[test]
fn expressions_have_the_values_that_python_gives_them() {
    check(&[
        (
            "{{ 1 + 2 * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 3 ** 2 }} {{ 7 / 2 }}",
            "7 3 -4 2 512 3.5",
        ),
        (
            "{{ 'a' ~ 1 ~ none ~ true }} {{ 'ab' * 2 }} {{ [1] + [2] }} {{ (1, 'x') }}",
            "a1NoneTrue abab [1, 2] [1, 'x']",
        ),
        ("{{ 1 < 2 and not 3 == 4 or false }} {{ 'x' if false else 'y' }}{{ 'x' if false }}", "True y"),
        ("{{ 'b' in 'abc' }} {{ 2 not in [1] }} {{ 'k' in {'k': 1} }}", "True True True"),
        (
            "{{ 'abc'[0] }}{{ 'abc'[-1] }} {{ 'abcd'[1:3] }} {{ 'abc'[::-1] }} {{ [1, 2, 3][1:] }}",
            "ac bc cba [2, 3]",
        ),
        ("{{ 2 + 3 | string | length }} {{ -1 | abs }} {{ 4 is even and 3 is not even }}", "3 1 True"),
        ("{{ {'a': {'b': [1, 2]}}.a['b'][1] }} {{ missing }}|{{ missing is defined }}", "2 |False"),
        (
            "{{ [3, 1, 2.5, true] | sort }} {{ ['b', 'A', 'c'] | sort(reverse=true) }} {{ {'b': 1, 'a': 2} | dictsort }}",
            "[1, True, 2.5, 3] ['c', 'b', 'A'] [['a', 2], ['b', 1]]",
        ),
        (
            "{{ range(-9000000000000000000, 9000000000000000000, 6000000000000000000) | list | last }}",
            "3000000000000000000",
        ),
        ("{{ 'it\\'s \\u00e9\\n' }}{{ \"a\" 'b' }}", "it's é\nab"),
    ]);
}

#[test]
fn statements_do_what_jinja_says() {
    check(&[
        (
            "{% for x in [1, 2, 3] if x != 2 %}{{ loop.index }}:{{ x }}{{ ',' if not loop.last }}{% else %}-{% endfor %}",
            "1:1,2:3",
        ),
        (
            "{% for x in [] %}{% else %}none{% endfor %}{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}",
            "nonea1",
        ),
        (
            "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
            "02",
        ),
        (
            "{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{% endfor %}{{ x }}{% if true %}{% set x = 3 %}{% endif %}{{ x }}",
            "13",
        ),
        (
            "{% set n = namespace(x=0) %}{% for i in range(4) %}{% set n.x = n.x + i %}{% endfor %}{{ n.x }}",
            "6",
        ),
        ("{% macro m(a, b='d') %}[{{ a }}{{ b }}]{% endmacro %}{{ m(1) }}{{ m(b=2, a=3) }}", "[1d][32]"),
        (
            "{% set x | upper %}q{{ 1 }}{% endset %}{{ x }}{% filter upper %}w{% endfilter %}{% with y = 2 %}{{ y }}{% endwith %}",
            "Q1W2",
        ),
        ("{% raw %}{{ x }}{% endraw %}{# gone #}{% generation %}g{% endgeneration %}", "{{ x }}g"),
    ]);
}

#[test]
fn white_space_around_tags_goes_as_transformers_asks_for() {
    check(&[
        ("a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc"),
        ("a \n {%- if true -%} \n b {%- endif %} c", "ab c"),
        ("a {{- ' b ' -}} c", "a b c"),
        (" {%+ if true +%}\n{% endif %}x", " \nx"),
        ("{# one #}\n{# two #}\nx {# three #} y", "x  y"),
    ]);
}

#[test]
fn whatever_is_done_to_the_text_of_a_message_it_stays_that() {
    check(&[
        ("{{ content }}<{{ content }}", "⟨a b⟩<⟨a b⟩"),
        ("{{ '<' + content ~ '>' }}", "<⟨a b⟩>"),
        (
            "{{ content[0] }}.{{ content[-1:] }}.{{ content[::-1] }}.{{ content | reverse }}",
            "⟨a⟩.⟨b⟩.⟨b a⟩.⟨b a⟩",
        ),
        ("{{ content | upper | lower | title | capitalize | trim }}", "⟨A b⟩"),
        ("{{ content.split(' ') | join('-') }} {{ content.split()[1] }}", "⟨a⟩-⟨b⟩ ⟨b⟩"),
        ("{{ content | replace('a', 'x') }}.{{ 'x-x' | replace('-', content) }}", "x⟨ b⟩.x⟨a b⟩x"),
        ("{{ [content] }} {{ content | tojson }} {{ {'k': content} }}", "['⟨a b⟩'] \"⟨a b⟩\" {'k': '⟨a b⟩'}"),
        ("{% for c in content %}{{ c }}.{% endfor %}{{ content | list | last }}", "⟨a⟩.⟨ ⟩.⟨b⟩.⟨b⟩"),
        (
            "{% set x %}({{ content }}){% endset %}{{ x[1:] }}{{ messages | map(attribute='content') | first }}",
            "⟨a b⟩)⟨a b⟩",
        ),
        (
            "{% macro m(x) %}{{ x }}!{% endmacro %}{{ m(content) }}{{ content | indent(2, true) }}{{ content * 2 }}",
            "⟨a b⟩!  ⟨a ba ba b⟩",
        ),
        (
            "{{ content | default('x') or 'y' }}{{ content.strip('a') }}{{ content.removeprefix('a ') }}",
            "⟨a b bb⟩",
        ),
        (
            "{% set n = namespace(s='') %}{% for m in messages %}{% set n.s = n.s + m.content[0] + '|' %}{% endfor %}{{ n.s }}",
            "⟨a⟩|⟨a⟩|",
        ),
    ]);
}

#[test]
fn what_grows_ends_in_an_error_before_it_takes_memory() {
    for growing in [
        "{% set n = namespace(s='xx') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{% set n = namespace(s='xx') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{% set n = namespace(s='xx') %}{% for i in range(60) %}{% set n.s = n.s | replace('x', 'xx') %}{% endfor %}",
        "{% set n = namespace(s='xx') %}{% for i in range(60) %}{% set n.s = n.s.replace('', 'x') %}{% endfor %}",
        "{% set n = namespace(s='xx') %}{% for i in range(60) %}{% set n.s = n.s.join([n.s, n.s]) %}{% endfor %}",
        "{% set n = namespace(s='xx') %}{% for i in range(60) %}{% set n.s = n.s | list | join(n.s) %}{% endfor %}",
        "{% set n = namespace(s='x\n') %}{% for i in range(60) %}{% set n.s = n.s * 2 %}{% endfor %}",
        "{% set n = namespace(s='\"') %}{% for i in range(60) %}{% set n.s = n.s | tojson %}{% endfor %}",
        "{% set n = namespace(s=[1]) %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{% set n = namespace(s=[1]) %}{% for i in range(60) %}{% set n.s = n.s * 2 %}{% endfor %}",
        "{% set n = namespace(s=[1]) %}{% for i in range(60) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}",
        "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set t %}{{ n.s }}{{ n.s }}{% endset %}{% set n.s = t %}{% endfor %}",
        "{% set n = namespace(s='ß') %}{% for i in range(60) %}{% set n.s = (n.s ~ n.s) | upper %}{% endfor %}",
        "{{ 'x' * 10 ** 9 }}",
        "{{ [1] * 10 ** 9 }}",
        "{{ [] * 10 ** 18 }}{{ '' * 10 ** 18 }}",
        "{{ 'a\nb' | indent(10 ** 9) }}",
        "{{ range(10 ** 6) | list | list | list }}",
        "{{ range(10 ** 9) | list }}",
        "{{ (range(10 ** 6) | map('string') | list) }}",
        "{{ ('x' * 1000000).split('x') }}",
        "{{ ('x ' * 1000000).split() }}",
        "{{ ('x' * 1000000) | list | length }}",
        "{% for i in range(10 ** 6) %}{% for j in range(10 ** 6) %}{% endfor %}{% endfor %}",
        "{% set s = 'x' * 1000000 %}{% for i in range(10 ** 6) %}{% if 'y' in s %}{% endif %}{% endfor %}",
        "{% macro m(x) %}{{ m(x ~ x) }}{% endmacro %}{{ m('x') }}",
    ] {
        let failure = render_with(growing, "", 16 << 20, &|| true).unwrap_err();
        assert!(matches!(failure, Failure::Invalid(_) | Failure::Overflow), "{growing}: {failure:?}");
    }
}

#[test]
fn what_is_nested_is_bounded_where_it_is_read_and_where_it_is_rendered() {
    let deep =
        |open: &str, inside: &str, close: &str, times| open.repeat(times) + inside + &close.repeat(times);
    for times in [1_000, 100_000] {
        for source in [
            format!("{{{{ {} }}}}", deep("(", "1", ")", times)),
            format!("{{{{ {} }}}}", deep("[", "1", "]", times)),
            format!("{{{{ {} }}}}", deep("-", "1", "", times)),
            format!("{{{{ {} }}}}", deep("not ", "1", "", times)),
            format!("{{{{ 1{} }}}}", "+1".repeat(times)),
            format!("{{{{ 1{} }}}}", "**1".repeat(times)),
            format!("{{{{ x{} }}}}", ".x".repeat(times)),
            format!("{{{{ x{} }}}}", "[0]".repeat(times)),
            format!("{{{{ x{} }}}}", "()".repeat(times)),
            format!("{{{{ x{} }}}}", "|trim".repeat(times)),
            format!("{{{{ x{} }}}}", " is none".repeat(times)),
            format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(times)),
            deep("{% if true %}", "x", "{% endif %}", times),
            deep("{% for x in y %}", "x", "{% endfor %}", times),
            format!("{{% set {} = 1 %}}", deep("(", "x", ")", times)),
        ] {
            assert!(matches!(parse(&source), Err(Failure::Invalid(_))), "{}", &source[..40]);
        }
    }
    // As deep as the parser lets it be, in a macro that calls itself, on a small stack.
    let deep = deep("(1 + ", "m()", ")", 20);
    let source = format!(
        "{{% macro m() %}}{}{{{{ {deep} }}}}{}{{% endmacro %}}{{{{ m() }}}}",
        "{% if true %}".repeat(20),
        "{% endif %}".repeat(20)
    );
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    let render = move || render_with(&source, "", 16 << 20, &|| true);
    let failure = thread.spawn(render).unwrap().join().unwrap().unwrap_err();
    assert!(matches!(&failure, Failure::Invalid(reason) if reason.contains("deeply")), "{failure:?}");
    // What holds itself could never be dropped.
    for source in
        ["{% set n = namespace() %}{% set n.n = n %}", "{% set n = namespace() %}{% set n.n = [n] %}"]
    {
        assert!(render_with(source, "", 1 << 20, &|| true).is_err());
    }
}

#[test]
fn a_rendering_that_nobody_waits_for_ends() {
    let source = "{% for i in range(10 ** 6) %}{{ '' }}{% endfor %}";
    let looks = std::cell::Cell::new(0);
    let wanted = || {
        looks.set(looks.get() + 1);
        looks.get() < 3
    };
    assert_eq!(render_with(source, "", 1 << 30, &wanted), Err(Failure::Abandoned));
    assert_eq!(looks.get(), 3);
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    for (source, reason, line) in [
        ("\n{{ no_such() }}", "no_such", "line 2"),
        ("{{ 1 | no_such }}", "no_such", "line 1"),
        ("{{ 1 is no_such }}", "no_such", "line 1"),
        ("{{ 'x'.no_such() }}", "no_such", "line 1"),
        ("\n\n{% no_such %}", "no_such", "line 3"),
        ("{{ missing.name }}", "undefined", "line 1"),
        ("{{ 1 + 'a' }}", "a string", "line 1"),
        ("{{ 1 // 0 }}", "zero", "line 1"),
        ("{{ 9223372036854775807 + 1 }}", "too large", "line 1"),
        ("{{ ([1, 'a', 2.5] * 50) | sort }}", "no order", "line 1"),
        ("{{ (['nan' | float, 1, 3, 2] * 50) | sort }}", "no order", "line 1"),
        ("{{ 'abc", "does not end", "line 1"),
        ("{% if true %}", "endif", "line 1"),
        ("{{ 1 | trim(chars='x', no='y') }}", "no", "line 1"),
        ("{% for a, b in [[1]] %}{% endfor %}", "names", "line 1"),
    ] {
        let Failure::Invalid(said) = render_with(source, "", 1 << 20, &|| true).unwrap_err() else {
            panic!()
        };
        assert!(said.contains(reason) && said.contains(line), "{source}: {said}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_is_a_template_that_panics(source in "(\\{[{%#]|[}%#]\\}|[a-z|.,()\\[\\]{}'\"+*/~ -]|if|for|set|in|not|is|endif|endfor|\\PC){0,24}") {
        if let Ok(block) = parse(&source) {
            let meter = Meter::new(10_000_000, 1 << 20, &|| true);
            render(&block, Vec::new(), 1 << 16, &meter).ok();
        }
    }
}
