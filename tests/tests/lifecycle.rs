//! Starting, stopping and restarting, as a person or a container runtime does.

use e2e::{Events, MODEL, Program, Server, busy_engine, engine, engine_on_port, get, post, standalone, web};
use serde_json::{Value, json};

/// Asks the page's server and returns the states that it reported and the answer's text.
async fn chat(mut events: Events) -> (Vec<String>, String) {
    let (mut states, mut text) = (Vec::new(), String::new());
    while let Some(event) = events.next().await {
        let data: Value = serde_json::from_str(&event.data).expect("an event's data is JSON");
        match event.event.as_str() {
            "status" => states.push(data["state"].as_str().expect("a state").to_owned()),
            "delta" => text.push_str(data["text"].as_str().expect("a text")),
            "done" => return (states, text),
            _ => panic!("{event:?}"),
        }
    }
    panic!("the stream was cut");
}

async fn question(web: &Server) -> Events {
    Events::of(&format!("{}/chat", web.url), json!({"message": "What is the sea?"})).await
}

async fn stopped(server: &mut Server) {
    server.program.terminate();
    let (status, _) = server.program.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test]
async fn the_page_gives_the_engine_s_answer() {
    let engine = engine(&["--temp", "0"]).await;
    let web = web(&engine.url).await;
    let messages = json!([{"role": "user", "content": "What is the sea?"}]);
    let whole = post(&format!("{}/v1/chat/completions", engine.url), json!({"messages": messages})).await;
    let whole = whole.body["choices"][0]["message"]["content"].as_str().expect("a text").to_owned();
    assert!(!whole.is_empty());

    let (_, text) = chat(question(&web).await).await;
    assert_eq!(text, whole);
    let (_, text) = chat(Events::of(&format!("{}/chat", web.url), json!({"messages": messages})).await).await;
    assert_eq!(text, whole);
}

#[tokio::test]
async fn the_page_waits_for_an_engine_that_restarts() {
    let mut engine = engine(&["--temp", "0"]).await;
    let web = web(&engine.url).await;
    let (states, before) = chat(question(&web).await).await;
    assert!(states.is_empty(), "{states:?}");
    stopped(&mut engine).await;

    let asked_meanwhile = question(&web).await;
    assert_eq!(get(&web.url).await.status, 200);
    let _engine = engine_on_port(engine.port(), &["--temp", "0"]).await;
    let (states, after) = chat(asked_meanwhile).await;
    assert_eq!(states.first().map(String::as_str), Some("unreachable"));
    assert_eq!(after, before);
}

#[tokio::test]
async fn both_programs_run_in_one_process() {
    let mut both = standalone().await;
    let (_, text) = chat(question(&both).await).await;
    assert!(!text.is_empty());
    stopped(&mut both).await;
}

#[tokio::test]
async fn an_engine_that_dies_in_the_middle_of_an_answer_is_an_error_on_the_page() {
    let engine = busy_engine(&["--temp", "0"]).await;
    let web = web(&engine.url).await;
    let mut events = question(&web).await;
    events.next().await.expect("a first event");
    drop(engine);

    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    let last = last.expect("an event after the first");
    assert_eq!(last.event, "error", "{last:?}");
    assert!(last.data.contains("message"), "{last:?}");
}

#[tokio::test]
async fn on_sigterm_the_engine_finishes_what_it_has_begun_and_exits_with_0() {
    let mut engine = busy_engine(&[]).await;
    let body = json!({
        "prompt": "The kettle sings",
        "temperature": 0,
        "max_tokens": 100,
        "stream": true,
        "ignore_eos": true,
    });
    let mut stream = Events::of(&format!("{}/v1/completions", engine.url), body).await;
    stream.next().await.expect("a first chunk");
    engine.program.terminate();

    let rest = stream.rest().await;
    assert_eq!(rest.last().map(String::as_str), Some("[DONE]"));
    assert!(rest.iter().any(|chunk| chunk.contains(r#""finish_reason":"length""#)), "{rest:?}");
    let (status, _) = engine.program.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test]
async fn on_sigterm_the_page_s_server_finishes_what_it_has_begun_and_exits_with_0() {
    let engine = engine(&["--temp", "0", "--isa", "scalar", "--threads", "1", "--n-predict", "100"]).await;
    let mut web = web(&engine.url).await;
    let mut events = question(&web).await;
    events.next().await.expect("a first event");
    web.program.terminate();

    chat(events).await;
    let (status, _) = web.program.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test]
async fn a_health_check_tells_by_its_exit_status() {
    let mut engine = engine(&[]).await;
    let mut web = web(&engine.url).await;
    for (server, name, variable) in
        [(&mut engine, "bitnet-engine", "BITNET_PORT"), (&mut web, "bitnet-web", "PORT")]
    {
        let port = server.port().to_owned();
        let check = || Program::start(name, &["healthcheck"], &[(variable, &port)]);
        assert_eq!(check().ended().await.0.code(), Some(0), "{name}");
        stopped(server).await;
        assert_eq!(check().ended().await.0.code(), Some(1), "{name}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_said() {
    let engine = engine(&[]).await;
    let web = web(&engine.url).await;
    let second_engine = ["--model", MODEL, "--port", engine.port()];
    let address = web.url.trim_start_matches("http://");
    for (mut program, port) in [
        (Program::start("bitnet-engine", &second_engine, &[]), engine.port()),
        (Program::start("bitnet-web", &[], &[("LISTEN", address)]), web.port()),
    ] {
        let (status, printed) = program.ended().await;
        assert_eq!(status.code(), Some(1), "{status}");
        assert!(printed.contains("in use") && printed.contains(port), "{printed}");
    }
}
