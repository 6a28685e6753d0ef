//! What `deploy` watches and scales by is what an engine serves.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use e2e::{engine, get, post};
use serde_json::json;

/// Left out where there is nothing to tell: without a limit of the CPU, or a cache that has pages.
const SOMETIMES: [&str; 2] = ["bitnet_cpu_", "bitnet_pages"];

#[tokio::test]
async fn every_metric_in_deploy_is_served() {
    let engine = engine(&[]).await;
    let answer = post(&format!("{}/completion", engine.url), json!({"prompt": "a", "n_predict": 4})).await;
    assert_eq!(answer.status, 200);
    let scrape = get(&format!("{}/metrics", engine.url)).await;
    let served = names(scrape.body.as_str().expect("text"));
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let mut used = BTreeSet::new();
    for file in
        ["monitoring/rules.yml", "monitoring/dashboard.json", "kubernetes/components/keda/scaledobject.yaml"]
    {
        let text = fs::read_to_string(deploy.join(file)).expect(file);
        let found = names(&text);
        assert!(!found.is_empty(), "{file} names no metric");
        used.extend(found);
    }
    let missing: Vec<_> =
        used.difference(&served).filter(|name| !SOMETIMES.iter().any(|s| name.starts_with(s))).collect();
    assert!(missing.is_empty(), "{missing:?} is not among {served:?}");
}

/// The engine's metrics that a text names; not what rules make of them, which has a name with `instance:` before it.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | ':');
    let words = text.split(|character| !is_part(character)).map(|word| word.trim_end_matches(':'));
    words
        .filter(|word| word.starts_with("bitnet_") || word.starts_with("llamacpp:"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn metrics_are_found_in_expressions_and_scrapes() {
    let expression =
        r#"sum by (le) (rate(bitnet_a_bucket{x="y"}[5m])) / instance:bitnet_c:p95 > 0.8 * llamacpp:d"#;
    assert_eq!(names(expression), ["bitnet_a_bucket", "llamacpp:d"].map(str::to_owned).into());
}
