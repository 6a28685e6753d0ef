//! The page, its files and their headers.

use crate::fake_engine::FakeEngine;
use crate::web::Web;

async fn web() -> Web {
    Web::before(&FakeEngine::start([]).await)
}

#[tokio::test]
async fn the_page_has_no_inline_script_or_style_and_nothing_from_elsewhere() {
    let page = web().await.get("/").await.text().await.unwrap().to_lowercase();
    assert!(page.starts_with("<!doctype html>"));
    assert!(!page.contains("<style") && !page.contains(" style="), "inline style");
    let handler = page.split(' ').find(|word| word.starts_with("on") && word.contains('='));
    assert_eq!(handler, None, "inline event handler");
    assert!(!page.contains("javascript:"));
    for script in page.split("<script").skip(1) {
        let (attributes, rest) = script.split_once('>').unwrap();
        assert!(attributes.contains("src=") && rest.starts_with("</script>"), "inline script");
    }
    let elsewhere = ["src=\"http", "href=\"http", "src=\"//", "href=\"//"];
    assert!(elsewhere.iter().all(|start| !page.contains(start)));
    assert!(page.contains("<noscript>"));
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let web = web().await;
    for path in ["/", "/assets/chat.js", "/health", "/status", "/nowhere", "/chat"] {
        let response = web.get(path).await;
        let headers = response.headers();
        let policy = headers["content-security-policy"].to_str().unwrap();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"));
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["x-frame-options"], "DENY");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        assert_eq!(headers["cross-origin-opener-policy"], "same-origin");
    }
}

#[tokio::test]
async fn the_page_is_checked_each_time_and_its_files_are_kept() {
    let web = web().await;
    let page = web.get("/").await;
    assert_eq!(page.headers()["cache-control"], "no-cache");
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let page = page.text().await.unwrap();
    let mut files = 0;
    for link in page.split("=\"assets/").skip(1) {
        let (name, _) = link.split_once('"').unwrap();
        let file = web.get(&format!("/assets/{name}")).await;
        assert_eq!(file.status(), 200, "{name}");
        assert_eq!(file.headers()["cache-control"], "public, max-age=31536000, immutable");
        files += 1;
    }
    assert_eq!(files, 3);
    // A page of another version finds the file, but does not keep it under the wrong name.
    let file = web.get("/assets/chat.js?v=0000000000000000").await;
    assert_eq!(
        (file.status().as_u16(), &file.headers()["cache-control"]),
        (200, &"no-cache".parse().unwrap())
    );
}

#[tokio::test]
async fn a_file_that_the_browser_has_is_not_sent_again() {
    let web = web().await;
    for path in ["/", "/assets/chat.css", "/assets/chat.js", "/assets/icon.svg"] {
        let first = web.get(path).await;
        let etag = first.headers()["etag"].to_str().unwrap().to_owned();
        assert!(!first.bytes().await.unwrap().is_empty());
        for (tags, status) in [
            (etag.clone(), 304),
            (format!("\"other\", W/{etag}"), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
        ] {
            let request = web.request("GET", path).header("if-none-match", &tags);
            let again = request.send().await.unwrap();
            assert_eq!(again.status(), status, "{path} {tags}");
            assert_eq!(again.headers()["etag"], etag.as_str());
            assert_eq!(again.bytes().await.unwrap().is_empty(), status == 304);
        }
    }
}

#[tokio::test]
async fn wrong_addresses_and_methods_are_told() {
    let web = web().await;
    for (method, path, status, allow) in [
        ("GET", "/nowhere", 404, None),
        ("POST", "/assets/../chat.js", 404, None),
        ("GET", "/assets/", 404, None),
        ("GET", "/chat", 405, Some("POST")),
        ("POST", "/", 405, Some("GET, HEAD")),
        ("DELETE", "/assets/chat.js", 405, Some("GET, HEAD")),
        ("HEAD", "/", 200, None),
        ("HEAD", "/health", 200, None),
    ] {
        let response = web.request(method, path).send().await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        let found = response.headers().get("allow").map(|value| value.to_str().unwrap());
        assert_eq!(found, allow, "{method} {path}");
    }
}
