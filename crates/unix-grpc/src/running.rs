//! How many calls run.

use tokio::sync::watch;

/// How many calls run. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Running(watch::Sender<usize>);

impl Running {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// A call that runs until this is dropped.
    #[must_use]
    pub fn one_more(&self) -> Run {
        self.0.send_modify(|running| *running += 1);
        Run(self.0.clone())
    }

    /// Resolves when none runs.
    pub(crate) async fn none(&self) {
        let _ = self.0.subscribe().wait_for(|running| *running == 0).await;
    }
}

/// A call that runs until this is dropped.
#[derive(Debug)]
pub struct Run(watch::Sender<usize>);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}
