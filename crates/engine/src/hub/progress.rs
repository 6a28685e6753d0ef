//! How far a download is, for whoever waits for it.

use std::time::{Duration, Instant};

use tracing::info;

/// What has to happen before a model can answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Its weights are read and rearranged.
    #[default]
    Loading,
    /// Its file is on the way.
    Downloading(Progress),
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes of the whole file, if the hub tells.
    pub total: Option<u64>,
    /// Seconds until the rest is here, by the speed of the last seconds; unknown at the beginning and without `total`.
    pub seconds_left: Option<u64>,
}

/// Time between two lines of the log.
const LINE: Duration = Duration::from_secs(5);
/// Time over which the speed is measured.
const WINDOW: Duration = Duration::from_secs(10);

/// Measures the speed of a download and writes a line about it now and then.
pub(super) struct Meter {
    line: Instant,
    /// When the present window began, and with how many bytes.
    window: (Instant, u64),
    /// Bytes a second in the window before.
    speed: Option<f64>,
}

impl Meter {
    /// Begins with the bytes that are here already.
    pub(super) fn new(bytes: u64) -> Self {
        let now = Instant::now();
        Self { line: now, window: (now, bytes), speed: None }
    }

    /// Takes note of how many bytes are here now.
    pub(super) fn progress(&mut self, bytes: u64, total: Option<u64>) -> Progress {
        let (begin, from) = self.window;
        let seconds = begin.elapsed().as_secs_f64();
        let speed = bytes.saturating_sub(from) as f64 / seconds;
        if begin.elapsed() > WINDOW {
            self.window = (Instant::now(), bytes);
            self.speed = Some(speed);
        }
        // In its first second a window says little.
        let speed = self.speed.or((seconds > 1.0).then_some(speed)).filter(|&speed| speed > 0.0);
        let left = speed.zip(total).map(|(speed, total)| total.saturating_sub(bytes) as f64 / speed);
        let progress = Progress { bytes, total, seconds_left: left.map(|seconds| seconds.ceil() as u64) };
        if self.line.elapsed() > LINE {
            self.line = Instant::now();
            info!("{}", line(progress, speed));
        }
        progress
    }
}

fn line(progress: Progress, speed: Option<f64>) -> String {
    let Progress { bytes, total, seconds_left } = progress;
    let amount = match total {
        Some(total) if total > 0 => {
            format!("{bytes} of {total} bytes ({:.0} %)", bytes as f64 / total as f64 * 100.0)
        }
        _ => format!("{bytes} bytes"),
    };
    let speed = speed.map_or(String::new(), |speed| format!(", {:.1} MB/s", speed / 1e6));
    let left = seconds_left.map_or(String::new(), |seconds| format!(", about {seconds} s left"));
    format!("downloading: {amount}{speed}{left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_is_known() {
        let progress = Progress { bytes: 250, total: Some(1000), seconds_left: Some(7) };
        assert_eq!(
            line(progress, Some(2.5e6)),
            "downloading: 250 of 1000 bytes (25 %), 2.5 MB/s, about 7 s left"
        );
        let progress = Progress { bytes: 250, total: None, seconds_left: None };
        assert_eq!(line(progress, None), "downloading: 250 bytes");
    }
}
