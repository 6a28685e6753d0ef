//! Downloads from a hub that misbehaves in every way that real ones and the networks before them do.

mod fake_hub;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::cache::{self, Known};
use super::error::HubError;
use super::partial::digits;
use super::progress::{Progress, Stage};
use super::remote::Remote;
use super::transfer::{Patience, Transfer};
use super::{LocalModel, from_hub, in_folder, resolve};
use crate::config::Config;
use crate::hub::{HubFile, ModelReference};
use fake_hub::{FakeHub, Reply};

const PATIENCE: Patience = Patience {
    attempts: 3,
    first_pause: Duration::from_millis(10),
    longest_pause: Duration::from_millis(20),
    longest_wait: Duration::from_secs(5),
    connect: Duration::from_secs(5),
    stall: Duration::from_millis(300),
    look: Duration::from_millis(10),
};

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bitnet-hub-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The names of what is in the folder of the model.
    fn files(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.0.join("o/r/main")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Something that begins like a model.
fn content() -> Vec<u8> {
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    b"GGUF".iter().copied().chain(noise.take(100_000)).collect()
}

fn sum(bytes: &[u8]) -> String {
    digits(&Sha256::digest(bytes))
}

/// What the hub says about a file.
fn linked(bytes: &[u8]) -> Vec<(&'static str, String)> {
    vec![("x-linked-size", bytes.len().to_string()), ("x-linked-etag", format!("\"{}\"", sum(bytes)))]
}

fn whole(bytes: &[u8]) -> Reply {
    let headers = [linked(bytes), vec![("content-length", bytes.len().to_string())]].concat();
    Reply::new("200 OK", &headers, bytes)
}

fn rest(bytes: &[u8], from: usize) -> Reply {
    let (total, rest) = (bytes.len(), &bytes[from..]);
    let range = format!("bytes {from}-{}/{total}", total - 1);
    let headers = [linked(bytes), vec![("content-length", rest.len().to_string()), ("content-range", range)]];
    Reply::new("206 Partial Content", &headers.concat(), rest)
}

fn error(status: &str, headers: &[(&str, String)]) -> Reply {
    Reply::new(status, &[headers, &[("content-length", "0".to_owned())]].concat(), b"")
}

fn file() -> HubFile {
    HubFile { repository: "o/r".to_owned(), file: "model.gguf".to_owned(), revision: "main".to_owned() }
}

fn config(hub: &str, folder: &Folder, more: &[&str]) -> Config {
    let folder = folder.0.to_str().unwrap();
    let flags = ["x", "--hf-endpoint", hub, "--model-dir", folder, "--hf-home", folder];
    Config::parse([&flags, more].concat()).unwrap()
}

/// Downloads; the content of the file that is there then.
async fn fetch_from(
    hub: &str,
    folder: &Folder,
    known: Option<Known>,
    more: &[&str],
) -> Result<Vec<u8>, HubError> {
    let options = config(hub, folder, more).hub();
    let remote = Remote::new(&options, &PATIENCE)?;
    let target = folder.0.join(cache::place(&file()));
    let (stages, _) = watch::channel(Stage::default());
    let file = file();
    Transfer::new(&remote, &file, known, &target, &PATIENCE, &stages).run().await?;
    Ok(fs::read(target).unwrap())
}

async fn fetch(hub: &FakeHub, folder: &Folder) -> Result<Vec<u8>, HubError> {
    fetch_from(&hub.url(), folder, None, &[]).await
}

/// These replies lead to an error with these words, and to no file.
async fn check_error(replies: impl IntoIterator<Item = Reply>, words: &[&str]) {
    let (hub, folder) = (FakeHub::start(replies).await, Folder::new());
    let error = fetch(&hub, &folder).await.unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error}");
    }
    assert!(folder.files().is_empty(), "{:?}", folder.files());
}

/// These replies lead to the file; the ranges that were asked for.
async fn check_file(replies: impl IntoIterator<Item = Reply>) -> Vec<Option<usize>> {
    let (hub, folder) = (FakeHub::start(replies).await, Folder::new());
    assert!(fetch(&hub, &folder).await.unwrap() == content());
    assert_eq!(folder.files(), ["model.gguf"]);
    hub.requests().iter().map(|request| range(request)).collect()
}

fn range(request: &str) -> Option<usize> {
    let (_, range) = request.split_once("range: bytes=")?;
    range.split_once('-')?.0.parse().ok()
}

#[tokio::test]
async fn a_file_comes_whole_and_is_asked_for_by_its_address() {
    let (hub, folder) = (FakeHub::start([whole(&content())]).await, Folder::new());
    assert!(fetch(&hub, &folder).await.unwrap() == content());
    assert!(hub.requests()[0].starts_with("get /o/r/resolve/main/model.gguf http/1.1\r\n"));
}

#[tokio::test]
async fn after_a_break_the_rest_is_asked_for() {
    let content = content();
    let ranges = check_file([whole(&content).cut(40_000), rest(&content, content.len() - 40_000)]).await;
    assert_eq!(ranges, [None, Some(content.len() - 40_000)]);
}

#[tokio::test]
async fn a_server_that_ignores_the_range_sends_the_file_anew() {
    check_file([whole(&content()).cut(40_000), whole(&content())]).await;
}

#[tokio::test]
async fn a_server_that_sends_another_range_is_asked_again() {
    check_file([whole(&content()).cut(40_000), rest(&content(), 7), whole(&content())]).await;
}

#[tokio::test]
async fn a_server_that_has_no_such_range_is_asked_for_the_whole() {
    let refusal = error("416 Range Not Satisfiable", &linked(&content()));
    let ranges = check_file([whole(&content()).cut(40_000), refusal, whole(&content())]).await;
    assert_eq!(ranges.last(), Some(&None));
}

#[tokio::test]
async fn a_connection_that_stalls_is_given_up_and_continued() {
    let content = content();
    check_file([whole(&content).cut(40_000).stalling(), rest(&content, content.len() - 40_000)]).await;
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_again() {
    let trouble = error("502 Bad Gateway", &[]);
    let ranges = check_file([trouble.clone(), trouble, whole(&content())]).await;
    assert_eq!(ranges.len(), 3);
}

#[tokio::test]
async fn the_time_that_a_busy_server_asks_for_is_kept() {
    let begin = Instant::now();
    check_file([error("429 Too Many Requests", &[("retry-after", "1".to_owned())]), whole(&content())]).await;
    assert!(begin.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_server_that_asks_for_too_much_time_is_an_error_that_says_how_much() {
    check_error([error("429 Too Many Requests", &[("retry-after", "3600".to_owned())])], &["429", "3600 s"])
        .await;
}

#[tokio::test]
async fn trouble_that_stays_is_an_error_after_a_few_attempts() {
    check_error(vec![error("500 Internal Server Error", &[]); 3], &["500"]).await;
    check_error(vec![whole(&content()).cut(content().len()); 3], &["broke"]).await;
}

#[tokio::test]
async fn what_a_restart_finds_is_continued() {
    let (content, folder) = (content(), Folder::new());
    let hub = FakeHub::start([whole(&content).cut(40_000)]).await;
    fetch(&hub, &folder).await.unwrap_err();
    assert_eq!(folder.files().len(), 1, "what came is kept");

    let hub = FakeHub::start([whole(&content), rest(&content, content.len() - 40_000)]).await;
    assert!(fetch(&hub, &folder).await.unwrap() == content);
    assert_eq!(range(&hub.requests()[1]), Some(content.len() - 40_000));
    assert_eq!(folder.files(), ["model.gguf"]);
}

#[tokio::test]
async fn a_file_that_was_replaced_meanwhile_begins_anew() {
    let mut old = content();
    old[50_000] ^= 1;
    check_file([whole(&old).cut(40_000), rest(&content(), 60_004), whole(&content())]).await;
}

#[tokio::test]
async fn sizes_that_contradict_each_other_are_an_error_that_has_both() {
    let content = content();
    let headers = [("x-linked-size", "100005".to_owned()), ("content-length", "100004".to_owned())];
    check_error([Reply::new("200 OK", &headers, &content)], &["100005", "100004"]).await;
    let long = format!("{:x}\r\n", content.len()).into_bytes();
    let headers = [("x-linked-size", "99999".to_owned()), ("transfer-encoding", "chunked".to_owned())];
    let body = [&long[..], &content, b"\r\n0\r\n\r\n"].concat();
    check_error([Reply::new("200 OK", &headers, &body)], &["more bytes", "99999"]).await;
}

#[tokio::test]
async fn a_known_model_of_another_size_or_content_is_an_error() {
    let content = content();
    let sha256: &'static str = sum(&content).leak();
    let size = content.len() as u64;
    let folder = Folder::new();
    for (known, replies) in [
        (Known { size: size + 1, sha256 }, vec![whole(&content)]),
        (Known { size, sha256: "0".repeat(64).leak() }, vec![whole(&content)]),
    ] {
        let hub = FakeHub::start(replies).await;
        fetch_from(&hub.url(), &folder, Some(known), &[]).await.unwrap_err();
        assert!(folder.files().is_empty(), "{:?}", folder.files());
    }
    // Nothing but the bytes: a mirror that tells nothing about the file.
    let bare = Reply::new("200 OK", &[("content-length", size.to_string())], &content);
    let hub = FakeHub::start([bare]).await;
    let known = Known { size, sha256 };
    assert!(fetch_from(&hub.url(), &folder, Some(known), &[]).await.unwrap() == content);
}

#[tokio::test]
async fn wrong_bytes_are_fetched_again_once() {
    let (content, mut wrong) = (content(), content());
    wrong[70_000] ^= 1;
    let wrong = Reply::new("200 OK", &linked(&content), &wrong);
    check_file([wrong.clone(), whole(&content)]).await;
    check_error([wrong.clone(), wrong.clone(), whole(&content)], &["sha256", &sum(&content)]).await;
}

#[tokio::test]
async fn what_is_no_model_is_an_error_that_says_what_it_is() {
    let page = [("content-type", "text/html; charset=utf-8".to_owned())];
    check_error([Reply::new("200 OK", &page, b"<html>please log in</html>")], &["text/html", "HF_ENDPOINT"])
        .await;
    for (body, words) in
        [("version https://git-lfs", ["GGUF", "version"]), ("GG", ["GGUF", "GG"]), ("", ["GGUF", ""])]
    {
        let length = [("content-length", body.len().to_string())];
        check_error([Reply::new("200 OK", &length, body.as_bytes())], &words).await;
    }
    check_error([Reply::new("200 OK", &[], &content())], &["neither the size nor the sha256"]).await;
    check_error([error("404 Not Found", &[])], &["404", "hf:OWNER/REPO/FILE"]).await;
    check_error([error("401 Unauthorized", &[])], &["401", "HF_TOKEN"]).await;
    check_error([error("403 Forbidden", &[])], &["403", "HF_TOKEN"]).await;
    check_error([error("418 I'm a teapot", &[])], &["418"]).await;
    check_error(vec![Reply::new("nonsense", &[], b""); 3], &["127.0.0.1"]).await;
}

#[tokio::test]
async fn the_token_goes_to_the_hub_and_to_no_other_host() {
    let content = content();
    let behind = FakeHub::start([Reply::new("200 OK", &[], &content)]).await;
    let hub = FakeHub::start([
        Reply::redirect("/moved", &[]),
        Reply::redirect(&format!("{}/bytes", behind.url()), &linked(&content)),
    ])
    .await;
    let folder = Folder::new();
    let fetched = fetch_from(&hub.url(), &folder, None, &["--hf-token", "secret"]).await.unwrap();
    assert!(fetched == content);
    let requests = hub.requests();
    assert!(requests.len() == 2 && requests[1].starts_with("get /moved "), "{requests:?}");
    for request in requests {
        assert!(request.contains("authorization: bearer secret\r\n"), "{request}");
    }
    assert!(!behind.requests()[0].contains("secret"), "{:?}", behind.requests());
}

#[tokio::test]
async fn a_refusal_behind_the_hub_is_no_matter_of_tokens() {
    let behind = FakeHub::start([error("403 Forbidden", &[])]).await;
    let hub = FakeHub::start([Reply::redirect(&behind.url(), &linked(&content()))]).await;
    let error = fetch(&hub, &Folder::new()).await.unwrap_err().to_string();
    assert!(error.contains("403") && !error.contains("HF_TOKEN"), "{error}");
}

#[tokio::test]
async fn a_hub_that_announces_other_content_of_a_known_model_costs_nothing_that_is_here() {
    let (content, folder) = (content(), Folder::new());
    let known = Some(Known { size: content.len() as u64, sha256: sum(&content).leak() });
    let hub = FakeHub::start([whole(&content).cut(40_000)]).await;
    fetch_from(&hub.url(), &folder, known, &[]).await.unwrap_err();
    let mut other = content.clone();
    other[0] = 0;
    let hub = FakeHub::start([rest(&other, 60_004)]).await;
    let error = fetch_from(&hub.url(), &folder, known, &[]).await.unwrap_err().to_string();
    assert!(error.contains(&sum(&other)), "{error}");
    let hub = FakeHub::start([rest(&content, 60_004)]).await;
    assert!(fetch_from(&hub.url(), &folder, known, &[]).await.unwrap() == content);
}

#[tokio::test]
async fn a_server_that_begins_anew_each_time_and_breaks_off_is_given_up() {
    let long = [content(), vec![0; 4 << 20]].concat();
    let cut = |bytes| whole(&long).cut(bytes);
    let replies = [cut(2 << 20), cut(1 << 20), cut(2 << 20), cut(1 << 20), cut(2 << 20), whole(&long)];
    let hub = FakeHub::start(replies).await;
    fetch(&hub, &Folder::new()).await.unwrap_err();
}

#[tokio::test]
async fn redirects_that_lead_nowhere_are_an_error() {
    check_error(vec![Reply::redirect("/again", &[]); 20], &["redirects more than 10 times"]).await;
    check_error([error("302 Found", &[])], &["redirects to nowhere"]).await;
    check_error([Reply::redirect("file:///etc/passwd", &[])], &["not encrypted"]).await;
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_an_error_that_names_it() {
    let folder = Folder::new();
    let error = fetch_from("http://127.0.0.1:9", &folder, None, &[]).await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:9"), "{error}");
}

#[test]
fn without_a_download_the_error_names_host_reference_and_the_other_ways() {
    let folder = Folder::new();
    let config = config("http://127.0.0.1:9", &folder, &["-m", "bitnet-2b"]);
    let ModelReference::Hub(file) = &config.model else { panic!() };
    let (stages, _) = watch::channel(Stage::default());
    let error = from_hub(&config.model, file, &config.hub(), &PATIENCE, &stages).unwrap_err();
    let error = format!("{error:#}");
    for part in ["bitnet-2b", "127.0.0.1:9", "-m FILE", "-m demo"] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
}

#[tokio::test]
async fn two_processes_download_once() {
    let content = content();
    let (hub, folder) = (FakeHub::start([whole(&content)]).await, Folder::new());
    let known = Some(Known { size: content.len() as u64, sha256: sum(&content).leak() });
    let url = hub.url();
    let (first, second) =
        tokio::join!(fetch_from(&url, &folder, known, &[]), fetch_from(&url, &folder, known, &[]));
    assert!(first.unwrap() == content && second.unwrap() == content);
    assert_eq!(hub.requests().len(), 1);
    assert_eq!(folder.files(), ["model.gguf"]);
}

#[tokio::test]
async fn what_is_left_of_other_content_goes_when_the_file_is_there() {
    let folder = Folder::new();
    let place = folder.0.join("o/r/main");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("model.gguf.0123.part"), "old").unwrap();
    let hub = FakeHub::start([whole(&content())]).await;
    fetch(&hub, &folder).await.unwrap();
    assert_eq!(folder.files(), ["model.gguf"]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_an_error_that_names_it() {
    let folder = Folder::new();
    fs::write(folder.0.join("o"), "a file where a folder should be").unwrap();
    let hub = FakeHub::start([whole(&content())]).await;
    let error = fetch(&hub, &folder).await.unwrap_err().to_string();
    assert!(error.contains(folder.0.to_str().unwrap()) && error.contains("--model-dir"), "{error}");
}

#[tokio::test]
async fn a_file_larger_than_the_disk_is_an_error_before_it_comes() {
    let huge = [("x-linked-size", (1_u64 << 60).to_string())];
    check_error([Reply::new("200 OK", &huge, b"GGUF")], &["no room", "1152921504606846976", "missing"]).await;
}

#[tokio::test]
async fn whoever_waits_sees_how_far_it_is() {
    let content = content();
    let hub = FakeHub::start([whole(&content).cut(40_000).stalling()]).await;
    let folder = Folder::new();
    let options = config(&hub.url(), &folder, &[]).hub();
    let remote = Remote::new(&options, &PATIENCE).unwrap();
    let target = folder.0.join(cache::place(&file()));
    let (stages, mut stage) = watch::channel(Stage::default());
    let file = file();
    let transfer = Transfer::new(&remote, &file, None, &target, &PATIENCE, &stages).run();
    let seen = stage.wait_for(|stage| {
        matches!(stage, Stage::Downloading(Progress { bytes: 60_004, total: Some(100_004), .. }))
    });
    tokio::select! {
        result = transfer => panic!("{result:?}"),
        seen = seen => drop(seen.unwrap()),
    }
}

#[test]
fn what_the_hub_s_own_tools_have_downloaded_is_used_where_it_is() {
    let folder = Folder::new();
    let content = content();
    let known = Known { size: content.len() as u64, sha256: sum(&content).leak() };
    let options = config("http://127.0.0.1:9", &folder, &[]).hub();
    let find = |known| {
        let target = folder.0.join(cache::place(&file()));
        cache::find(&target, &file(), &options, known).unwrap()
    };
    assert_eq!(find(None), None);

    let repository = folder.0.join("hub/models--o--r");
    for folder in ["blobs", "snapshots/abc", "refs"] {
        fs::create_dir_all(repository.join(folder)).unwrap();
    }
    fs::write(repository.join("blobs").join(known.sha256), &content).unwrap();
    let link = repository.join("snapshots/abc/model.gguf");
    std::os::unix::fs::symlink(Path::new("../../blobs").join(known.sha256), &link).unwrap();
    assert_eq!(find(None), None, "nothing says which commit the branch is");
    fs::write(repository.join("refs/main"), "abc\n").unwrap();
    assert_eq!(find(None), Some(link.clone()));
    assert_eq!(find(Some(known)), Some(link));
    assert_eq!(find(Some(Known { size: 1, ..known })), None);
    assert_eq!(find(Some(Known { sha256: "0".repeat(64).leak(), ..known })), None);
}

#[test]
fn a_file_of_another_size_in_the_model_s_place_is_an_error_that_names_it() {
    let folder = Folder::new();
    let options = config("http://127.0.0.1:9", &folder, &[]).hub();
    let target = folder.0.join("model.gguf");
    fs::write(&target, "half").unwrap();
    let known = Known { size: 8, sha256: "" };
    let error = cache::find(&target, &file(), &options, Some(known)).unwrap_err().to_string();
    assert!(error.contains("4 bytes") && error.contains("remove"), "{error}");
}

#[test]
fn a_folder_means_the_one_model_in_it() {
    let folder = Folder::new();
    fs::create_dir_all(folder.0.join("folder.gguf")).unwrap();
    fs::write(folder.0.join("notes.txt"), "").unwrap();
    let empty = in_folder(&folder.0).unwrap();
    fs::write(folder.0.join("a.gguf"), "").unwrap();
    let one = in_folder(&folder.0).unwrap();
    fs::write(folder.0.join("b.gguf"), "").unwrap();
    let two = in_folder(&folder.0).unwrap_err().to_string();

    assert_eq!((empty, one), (LocalModel::Demo, LocalModel::File(folder.0.join("a.gguf"))));
    assert!(two.contains("2 model files") && two.contains("b.gguf"), "{two}");
}

#[test]
fn what_is_not_there_is_an_error_that_names_it() {
    let config = Config::parse(["x", "-m", "no/such.gguf"]).unwrap();
    let (stages, _) = watch::channel(Stage::default());
    let model = resolve(&config.model, &config.hub(), &stages).unwrap();
    let error = model.open().unwrap_err().to_string();
    assert!(error.contains("no/such.gguf") && error.contains("bitnet-2b"), "{error}");
}
