//! The text of a flag or variable to a value within its limits, or the limits.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use tracing_subscriber::EnvFilter;

use crate::chat_template::LONGEST_SOURCE;

/// A value, or "you choose". (An alias, since clap reads a literal `Option` as "may be absent".)
pub(super) type Auto<T> = Option<T>;

/// A parser for numbers whose error names the limits.
pub(super) fn within<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| match text.parse() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err(format!("must be a number from {} to {}", range.start(), range.end())),
    }
}

/// As `within`, where -1 means "automatic" or "no limit".
pub(super) fn or_minus_one<T>(text: &str, range: RangeInclusive<T>) -> Result<Auto<T>, String>
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    if text == "-1" {
        return Ok(None);
    }
    within(range)(text).map(Some).map_err(|limits| format!("{limits}, or -1"))
}

/// Tokens of a context: any prompt and any answer have at least one.
pub(super) fn context(text: &str) -> Result<usize, String> {
    let range = 2..=1_048_576;
    if text == "0" {
        return Ok(0);
    }
    within(range.clone())(text)
        .map_err(|_| format!("must be 0 or a number from {} to {}", range.start(), range.end()))
}

pub(super) fn threads(text: &str) -> Result<Auto<NonZeroUsize>, String> {
    // llama-server takes 0 for "automatic" as well.
    or_minus_one(text, 0..=1_024_usize).map(|threads| threads.and_then(NonZeroUsize::new))
}

pub(super) fn unlimited(text: &str) -> Result<Auto<usize>, String> {
    or_minus_one(text, 0..=1_048_576)
}

pub(super) fn seed(text: &str) -> Result<Auto<u64>, String> {
    or_minus_one(text, 0..=u64::MAX)
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    within(0..=86_400_u64)(text).map(Duration::from_secs)
}

pub(super) fn seconds_or_never(text: &str) -> Result<Auto<Duration>, String> {
    or_minus_one(text, 1..=604_800_u64).map(|seconds| seconds.map(Duration::from_secs))
}

pub(super) fn milliseconds(text: &str) -> Result<Duration, String> {
    within(1..=600_000_u64)(text).map(Duration::from_millis)
}

pub(super) fn ping_seconds(text: &str) -> Result<Duration, String> {
    or_minus_one(text, 1..=86_400_u64).map(|seconds| seconds.map_or(Duration::MAX, Duration::from_secs))
}

pub(super) fn name(text: &str) -> Result<String, String> {
    // llama-server takes a list; clients see the first, and any name is accepted in requests.
    match text.split(',').map(str::trim).find(|name| !name.is_empty()) {
        Some(name) if name.len() <= 256 => Ok(name.to_owned()),
        _ => Err("must have 1 to 256 bytes".to_owned()),
    }
}

pub(super) fn host(text: &str) -> Result<String, String> {
    let unbracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    match unbracketed {
        "" => Err("must not be empty".to_owned()),
        list if list.contains([',', '/']) || list.contains(char::is_whitespace) => {
            Err("must be one address or name".to_owned())
        }
        host => Ok(host.to_owned()),
    }
}

/// Checked by [`check_api_keys`]: an error of a value would print it.
pub(super) fn api_key(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    // As lists and files of secrets have it.
    Ok(text.trim().to_owned())
}

/// Whether all of them can be sent in a header. The error does not show them.
pub(super) fn check_api_keys(keys: &[String]) -> Result<(), clap::Error> {
    let is_key = |key: &String| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    if keys.iter().all(is_key) {
        return Ok(());
    }
    let message = "--api-key (BITNET_API_KEY): each key must be at least one character of printable ASCII, without spaces\n";
    Err(clap::Error::raw(clap::error::ErrorKind::ValueValidation, message))
}

/// `*`, `localhost`, or the origin of a page as browsers write it.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let text = text.trim().to_ascii_lowercase();
    if matches!(text.as_str(), "*" | "localhost") {
        return Ok(text);
    }
    let shape = "must be `*`, `localhost` or SCHEME://HOST[:PORT], without a path";
    let url = Url::parse(&text).map_err(|error| format!("{shape} ({error})"))?;
    let bare = matches!(url.path(), "" | "/")
        && [url.query(), url.fragment(), url.password()].iter().all(Option::is_none)
        && url.username().is_empty();
    match url.host_str().filter(|host| bare && !host.is_empty()) {
        // A port that goes without saying is left out, as browsers do.
        Some(host) => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            Ok(format!("{}://{host}{port}", url.scheme()))
        }
        None => Err(shape.to_owned()),
    }
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    // A word that is no level would silently be taken for the name of a part of the program.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_clear =
        |part: &str| levels.iter().any(|level| level.eq_ignore_ascii_case(part)) || part.contains(['=', '[']);
    if !text.split(',').map(str::trim).all(is_clear) {
        return Err(format!("must be one of {}, or a list such as info,hyper=warn", levels.join(", ")));
    }
    EnvFilter::try_new(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// `Authorization` with this token.
pub(super) fn bearer(text: &str) -> Result<HeaderValue, String> {
    let text = api_key(text.trim())?;
    let mut value = HeaderValue::try_from(format!("Bearer {text}")).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The base address of a hub, with a `/` at its end.
pub(super) fn endpoint(text: &str) -> Result<Url, String> {
    let mut url =
        Url::parse(text).map_err(|error| format!("{error}; expected something like https://HOST"))?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
        return Err("must begin with https:// or http:// and have no ? and no #".to_owned());
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

pub(super) fn template(text: &str) -> Result<String, String> {
    if text.contains('{') {
        Ok(text.to_owned())
    } else {
        Err("must be a Jinja template; names of built-in templates are not known here".to_owned())
    }
}

pub(super) fn template_file(path: &str) -> Result<String, String> {
    template(&text_file(path, LONGEST_SOURCE)?)
}

pub(super) fn prompt(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

pub(super) fn prompt_file(path: &str) -> Result<String, String> {
    /// More than fits any context that is asked for.
    const LONGEST: usize = 1 << 20;
    let text = text_file(path, LONGEST)?;
    // Editors end the last line, clients do not.
    let text = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
    prompt(text)
}

fn text_file(path: &str, longest: usize) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(longest as u64 + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes > longest => Err(format!("must have at most {longest} bytes")),
        Ok(_) => Ok(text),
        Err(error) => Err(error.to_string()),
    }
}
