//! A bar on a terminal while long work goes on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cove_types::wire;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{self, Output};
use crate::render::size;

/// How often the bar asks, when there is one.
const PACE_WATCHED: Duration = Duration::from_millis(200);
/// How long a call may be held back when nobody looks. What is waited for is said after a few
/// seconds there too, so it must be known by then.
const PACE: Duration = Duration::from_secs(2);
/// Work that ends sooner shows no bar: one that comes and goes is only a flicker.
const QUIET: Duration = Duration::from_millis(300);

/// What is known of work that goes on.
#[derive(Debug, Default)]
struct Seen {
    /// Its result is on this node.
    captured: AtomicBool,
    /// Nothing more is drawn.
    ended: AtomicBool,
    done_bytes: AtomicU64,
    done_files: AtomicU64,
    total_bytes: AtomicU64,
    total_files: AtomicU64,
    /// How far it is, in words.
    line: Mutex<String>,
}

/// A bar on standard error; nothing is drawn when that is no terminal.
///
/// **Invariant:** nothing is on the terminal before [`show`](Self::show) was called and after
/// [`end`](Self::end), so a verb that writes results in between begins on a line of its own.
#[derive(Clone)]
pub struct Bar {
    drawn: Option<Arc<ProgressBar>>,
    seen: Arc<Seen>,
}

impl Bar {
    /// A bar that has not been told of anything yet.
    pub fn new(output: Output) -> Self {
        let drawn = output
            .is_watched()
            .then(|| Arc::new(ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())));
        Self { drawn, seen: Arc::default() }
    }

    /// How long a call may be held back so that the bar moves.
    pub fn pace(&self) -> Duration {
        if self.drawn.is_some() { PACE_WATCHED } else { PACE }
    }

    /// Whether somebody sees it.
    pub fn is_watched(&self) -> bool {
        self.drawn.is_some()
    }

    /// Shows how far an operation is.
    pub fn operation(&self, operation: &wire::Operation) {
        if matches!(operation.state.as_str(), "captured" | "done") {
            self.captured();
        }
        self.show(&operation.progress);
    }

    /// Notes that the result is on this node.
    pub fn captured(&self) {
        self.seen.captured.store(true, Ordering::Relaxed);
    }

    /// How far it is, in words; empty when nothing is known.
    pub fn so_far(&self) -> String {
        self.seen.line.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much there is to do, once that is known.
    pub fn expect(&self, files: u64, bytes: u64) {
        self.seen.total_files.store(files, Ordering::Relaxed);
        self.seen.total_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Shows how much is copied of what is expected.
    pub fn copied(&self, step: &str, files: u64, bytes: u64) {
        let seen = &self.seen;
        seen.done_files.store(files, Ordering::Relaxed);
        seen.done_bytes.store(bytes, Ordering::Relaxed);
        let known = |total: &AtomicU64| Some(total.load(Ordering::Relaxed)).filter(|n| *n > 0);
        let progress = wire::Progress {
            step: step.to_owned(),
            done_bytes: bytes,
            total_bytes: known(&seen.total_bytes),
            done_files: files,
            total_files: known(&seen.total_files),
        };
        let elapsed = self.drawn.as_ref().map_or(Duration::ZERO, |bar| bar.elapsed());
        self.draw(&progress, line(&progress, elapsed));
    }

    /// The files and bytes copied so far.
    pub fn copied_so_far(&self) -> (u64, u64) {
        let seen = &self.seen;
        (seen.done_files.load(Ordering::Relaxed), seen.done_bytes.load(Ordering::Relaxed))
    }

    /// Whether the result is known to be on this node.
    pub fn is_captured(&self) -> bool {
        self.seen.captured.load(Ordering::Relaxed)
    }

    /// Shows how far work is.
    pub fn show(&self, progress: &wire::Progress) {
        self.draw(progress, line(progress, Duration::ZERO));
    }

    fn draw(&self, progress: &wire::Progress, line: String) {
        self.seen.line.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&line);
        let Some(bar) = &self.drawn else { return };
        if self.seen.ended.load(Ordering::Relaxed) {
            return;
        }
        bar.set_message(line);
        match progress.total_bytes.filter(|total| *total > 0) {
            Some(total) => {
                // In 80 columns there is room for the words up to the rate.
                bar.set_style(style("{spinner} {bar:8} {percent:>3} % {wide_msg}"));
                bar.set_length(total);
                bar.set_position(progress.done_bytes.min(total));
            }
            None => bar.set_style(style("{spinner} {wide_msg}")),
        }
        if bar.is_hidden() && bar.elapsed() >= QUIET {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(120));
        }
    }

    /// Says a line while the bar stands.
    pub fn say(&self, line: &str) {
        match &self.drawn {
            Some(bar) => bar.suspend(|| output::warn(line)),
            None => output::warn(line),
        }
    }

    /// Takes the bar away for good.
    pub fn end(&self) {
        self.seen.ended.store(true, Ordering::Relaxed);
        if let Some(bar) = &self.drawn
            && !bar.is_hidden()
        {
            bar.finish_and_clear();
        }
    }
}

/// A line that is cut at the terminal's width: one that wraps would not be cleared whole.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// How far work is, in words; with its rate from a second on.
fn line(progress: &wire::Progress, elapsed: Duration) -> String {
    let mut words = vec![crate::failure::printable(&progress.step)];
    if progress.done_files > 0 {
        words.push(match progress.total_files {
            Some(total) => format!("{} of {total} files", progress.done_files),
            None => format!("{} files", progress.done_files),
        });
    }
    if progress.done_bytes > 0 {
        words.push(match progress.total_bytes {
            Some(total) => format!("{} of {}", size(progress.done_bytes), size(total)),
            None => size(progress.done_bytes),
        });
        if elapsed >= Duration::from_secs(1) {
            let rate = progress.done_bytes.saturating_mul(1_000) / elapsed.as_millis() as u64;
            words.push(format!("{}/s", size(rate)));
        }
    }
    words.retain(|word| !word.is_empty());
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_only_what_is_known() {
        let at_once = Duration::ZERO;
        let progress = wire::Progress { step: "uploading".into(), ..Default::default() };
        assert_eq!(line(&progress, at_once), "uploading");
        let progress = wire::Progress {
            step: "uploading".into(),
            done_bytes: 1_500_000,
            total_bytes: Some(3_000_000),
            done_files: 12,
            total_files: None,
        };
        assert_eq!(line(&progress, at_once), "uploading, 12 files, 1.5 MB of 3.0 MB");
        let progress = wire::Progress { total_files: Some(24), ..progress };
        assert_eq!(
            line(&progress, Duration::from_secs(3)),
            "uploading, 12 of 24 files, 1.5 MB of 3.0 MB, 500 kB/s"
        );
    }
}
