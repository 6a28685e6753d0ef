//! A bar for a download, when there is a terminal to draw it on; the log has its lines otherwise.

use std::io::IsTerminal;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use bitnet_engine::hub::{Progress, Stage};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

/// Time between two looks.
const TICK: Duration = Duration::from_millis(100);

/// Does `work`, which may download, and shows how far it is.
pub(crate) fn shown<T>(work: impl FnOnce(&watch::Sender<Stage>) -> Result<T>) -> Result<T> {
    let (stages, progress) = watch::channel(Stage::default());
    thread::scope(|scope| {
        if is_drawn() {
            scope.spawn(move || draw(&progress));
        }
        let result = work(&stages);
        // Ends the thread that draws.
        drop(stages);
        result
    })
}

/// Whether a bar is drawn, so that lines of the log would only disturb it.
pub(crate) fn is_drawn() -> bool {
    std::io::stderr().is_terminal()
}

fn draw(progress: &watch::Receiver<Stage>) {
    let mut bar: Option<ProgressBar> = None;
    // Fails once the sender is gone.
    while progress.has_changed().is_ok() {
        if let Stage::Downloading(Progress { bytes, total, .. }) = *progress.borrow() {
            let bar = bar.get_or_insert_with(|| ProgressBar::no_length().with_style(style()));
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(bytes);
        }
        thread::sleep(TICK);
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

fn style() -> ProgressStyle {
    let template = "{wide_bar} {percent:>3} % of {total_bytes}, {bytes_per_sec}, {eta} left";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
