//! A bar on a terminal while long work goes on.

use std::sync::Arc;
use std::time::Duration;

use cove_types::wire;
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;
use crate::render::size;

/// How often the bar asks, when there is one.
const PACE_WATCHED: Duration = Duration::from_millis(200);
/// How long a call may be held back when nobody looks.
const PACE: Duration = Duration::from_secs(20);

/// A bar on standard error; nothing when that is no terminal.
#[derive(Clone)]
pub struct Bar(Option<Arc<ProgressBar>>);

impl Bar {
    /// A bar that has not been told of anything yet.
    pub fn new(output: Output) -> Self {
        Self(output.is_watched().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(120));
            Arc::new(bar)
        }))
    }

    /// How long a call may be held back so that the bar moves.
    pub fn pace(&self) -> Duration {
        if self.0.is_some() { PACE_WATCHED } else { PACE }
    }

    /// Shows how far an operation is.
    pub fn operation(&self, operation: &wire::Operation) {
        self.show(&operation.progress);
    }

    /// Shows how far work is.
    pub fn show(&self, progress: &wire::Progress) {
        let Some(bar) = &self.0 else { return };
        if let Some(total) = progress.total_bytes.filter(|total| *total > 0) {
            bar.set_style(with_bar());
            bar.set_length(total);
            bar.set_position(progress.done_bytes.min(total));
        }
        bar.set_message(line(progress));
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn with_bar() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {bar:24} {percent:>3} % {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// How far work is, in words.
fn line(progress: &wire::Progress) -> String {
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
    }
    words.retain(|word| !word.is_empty());
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_only_what_is_known() {
        let progress = wire::Progress { step: "uploading".into(), ..Default::default() };
        assert_eq!(line(&progress), "uploading");
        let progress = wire::Progress {
            step: "uploading".into(),
            done_bytes: 1_500_000,
            total_bytes: Some(3_000_000),
            done_files: 12,
            total_files: None,
        };
        assert_eq!(line(&progress), "uploading, 12 files, 1.5 MB of 3.0 MB");
    }
}
