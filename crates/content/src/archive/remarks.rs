//! What a person should know of a tree that was not taken as it is.

/// How many remarks are kept; the rest is counted.
const REMARKS_MAX: usize = 1000;

/// Remarks, one line each, at most [`REMARKS_MAX`] and a count.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    kept: Vec<String>,
    more: u64,
}

impl Remarks {
    /// Adds one.
    pub fn push(&mut self, remark: impl FnOnce() -> String) {
        if self.kept.len() < REMARKS_MAX {
            self.kept.push(remark());
        } else {
            self.more += 1;
        }
    }

    /// All of them.
    pub fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            self.kept.push(format!("and {} more", self.more));
        }
        self.kept
    }
}
