//! The load program against our engine: its figures agree with each other, what fails is said, and mixed traffic leaves nothing behind.

use std::process::ExitStatus;

use e2e::{Program, busy_engine, demo_engine, engine};
use serde_json::Value;

/// What the program prints, and how it ends.
async fn load(arguments: &[&str]) -> (ExitStatus, String) {
    Program::start("load", arguments, &[]).ended().await
}

fn json(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

fn number(figures: &Value, path: &str) -> f64 {
    figures.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} of {figures}"))
}

#[tokio::test]
async fn figures_agree_with_each_other_in_both_protocols() {
    let engine = demo_engine().await;
    for api in ["completion", "chat"] {
        let arguments = [
            &[
                "throughput",
                "--json",
                "--url",
                &engine.url,
                "--url",
                &engine.url,
                "--api",
                api,
                "--clients",
                "1,3",
            ][..],
            &["--requests", "2", "--prompt-tokens", "20", "--max-tokens", "30"],
        ];
        let (status, printed) = load(&arguments.concat()).await;
        assert!(status.success(), "{printed}");
        let servers = json(&printed)["servers"].take();
        for (server, clients, index) in [(0, 1.0, 0), (0, 3.0, 1), (1, 1.0, 0), (1, 3.0, 1)] {
            let figures = &servers[server]["clients"][index];
            let of = |path: &str| number(figures, path);
            assert_eq!(
                (of("/clients"), of("/answers"), of("/tokens")),
                (clients, clients * 2.0, clients * 60.0)
            );
            if api == "completion" {
                assert_eq!(of("/prompt_tokens"), clients * 40.0, "{figures}");
            }
            assert_eq!(figures["errors"], serde_json::json!({}));
            let counted = of("/tokens_per_second") * of("/seconds");
            assert!((counted - of("/tokens")).abs() < 0.01, "{figures}");
            for spread in ["first_token_ms", "gap_ms"] {
                let [p50, p95, p99, max] =
                    ["p50", "p95", "p99", "max"].map(|p| of(&format!("/{spread}/{p}")));
                assert!(0.0 <= p50 && p50 <= p95 && p95 <= p99 && p99 <= max && max > 0.0, "{figures}");
                assert!(max < of("/seconds") * 1e3, "{figures}");
            }
            let first = number(&servers[server]["clients"][0], "/tokens_per_second");
            assert!((of("/of_first") - of("/tokens_per_second") / first).abs() < 1e-9, "{figures}");
            let first = number(&servers[0]["clients"][index], "/tokens_per_second");
            assert!((of("/of_first_server") - of("/tokens_per_second") / first).abs() < 1e-9, "{figures}");
        }
    }
}

#[tokio::test]
async fn who_is_refused_is_counted_and_the_program_fails() {
    let engine = busy_engine(&[]).await;
    let arguments = ["throughput", "--json", "--url", &engine.url, "--clients", "6", "--requests", "2"];
    let (status, printed) = load(&arguments).await;
    let figures = json(&printed)["servers"][0]["clients"][0].take();
    assert_eq!(status.code(), Some(1), "{figures}");
    let refused = number(&figures, "/errors/429");
    assert!(refused > 0.0 && refused + number(&figures, "/answers") == 12.0, "{figures}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said() {
    let (status, printed) = load(&["throughput", "--url", "http://127.0.0.1:1"]).await;
    assert!(status.code() == Some(1) && printed.contains("127.0.0.1:1 does not answer"), "{printed}");
}

#[tokio::test]
async fn a_long_prompt_beside_running_answers_is_measured() {
    let engine = demo_engine().await;
    let arguments = ["gap", "--json", "--url", &engine.url, "--long-prompt", "400", "--max-tokens", "100"];
    let (status, printed) = load(&arguments).await;
    assert!(status.success(), "{printed}");
    let figures = json(&printed);
    assert_eq!(number(&figures, "/rounds"), 3.0);
    assert!(
        number(&figures, "/gap_before_ms/max") > 0.0 && number(&figures, "/long_first_token_ms") > 0.0,
        "{figures}"
    );
    assert!(number(&figures, "/worst_gap_ms") >= number(&figures, "/gap_beside_ms/max"), "{figures}");
}

/// Ten minutes of the same: `load soak --minutes 10`.
#[tokio::test]
async fn mixed_traffic_leaves_nothing_behind() {
    let engine = engine(&["--queue", "8", "--log-level", "info,bitnet_engine::serving=warn"]).await;
    let id = engine.program.id().to_string();
    let (status, printed) = load(&["soak", "--url", &engine.url, "--pid", &id, "--minutes", "0.35"]).await;
    assert!(status.success(), "{printed}");
    for line in [
        "chats: answered",
        "seeded: answered",
        "leavers: left",
        "slow readers: left",
        "deaf: left",
        "garbage: refused",
        "too long: refused",
        "scrapes: answered",
        "the rest told to come back",
        "ok      memory",
    ] {
        assert!(printed.contains(line), "{line} is missing:\n{printed}");
    }
}

#[tokio::test]
async fn a_check_that_does_not_hold_is_said_and_the_program_fails() {
    let engine = engine(&[]).await;
    // No process has this number.
    let arguments = ["soak", "--url", &engine.url, "--minutes", "0.01", "--pid", "4294967295"];
    let (status, printed) = load(&arguments).await;
    assert!(status.code() == Some(1) && printed.contains("FAILED  memory"), "{printed}");
    assert!(printed.contains("ok      everything is free"), "{printed}");
}
