//! Reads Prometheus's text format, and fails at whatever Prometheus or a stricter reader would not take.

use std::collections::BTreeMap;

/// The value of each series, by its name and labels as they are written.
#[track_caller]
pub(crate) fn parse(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'), "the last line does not end");
    let mut all = BTreeMap::new();
    let mut lines = text.lines().peekable();
    let mut families = Vec::new();
    while let Some(help) = lines.next() {
        let (family, sentence) = help.strip_prefix("# HELP ").expect(help).split_once(' ').expect(help);
        assert!(!sentence.is_empty(), "{help}");
        assert!(!families.contains(&family), "{family} is there twice");
        families.push(family);
        let of_type = format!("# TYPE {family} ");
        let line = lines.next().expect("a type");
        let kind = line.strip_prefix(of_type.as_str()).expect(line);
        let mut samples = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect(line);
            let (name, labels) = series
                .split_once('{')
                .map_or((series, None), |(name, rest)| (name, Some(rest.strip_suffix('}').expect(line))));
            check_name(name);
            labels.into_iter().for_each(check_labels);
            let value: f64 = value.parse().expect(line);
            assert!(value.is_finite() && value >= 0.0, "{line}");
            assert!(all.insert(series.to_owned(), value).is_none(), "{series} is there twice");
            samples.push((name, labels.unwrap_or_default(), value));
        }
        assert!(!samples.is_empty(), "{family} has no value");
        match kind {
            "histogram" => check_histogram(family, &samples),
            "counter" => assert!(family.ends_with("_total"), "{family}"),
            "gauge" => assert!(!family.ends_with("_total"), "{family}"),
            kind => panic!("{family} is a {kind}"),
        }
        assert!(kind == "histogram" || samples.iter().all(|(name, ..)| *name == family), "{samples:?}");
    }
    all
}

fn check_name(name: &str) {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_:".contains(&byte);
    assert!(name.bytes().all(valid) && !name.starts_with(|first: char| first.is_ascii_digit()), "{name}");
}

/// `name="value"` and commas; in values of ours there are neither commas nor quotes.
fn check_labels(labels: &str) {
    for label in labels.split(',') {
        let (name, value) = label.split_once('=').expect(labels);
        check_name(name);
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).expect(labels);
        assert!(!value.contains('"') && !name.contains(':'), "{labels}");
    }
}

/// Ascending bounds, growing counts, and the last one is all of them.
fn check_histogram(family: &str, samples: &[(&str, &str, f64)]) {
    let value = |suffix: &str| {
        let name = format!("{family}_{suffix}");
        samples.iter().find(|(found, ..)| *found == name).map(|(.., value)| *value).expect(&name)
    };
    let buckets: Vec<(f64, f64)> = samples
        .iter()
        .filter(|(name, ..)| *name == format!("{family}_bucket"))
        .map(|(_, labels, count)| {
            let bound = labels.strip_prefix("le=\"").and_then(|rest| rest.strip_suffix('"')).expect(labels);
            (bound.parse().expect(bound), *count)
        })
        .collect();
    assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{family}: {buckets:?}");
    assert_eq!(buckets.last(), Some(&(f64::INFINITY, value("count"))), "{family}");
    assert_eq!(samples.len(), buckets.len() + 2, "{family}: {samples:?}");
    assert!(value("sum") > 0.0 || value("count") == 0.0, "{family}");
}
