//! Work on the whole store, which no project's operations know: recovering and checking.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cove_content::volumes::Progress;
use cove_types::wire;
use cove_workspace::{Failure, WorkspaceError};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use crate::problem::Problem;

/// How many jobs are remembered, of those that have ended the oldest forgotten first.
const JOBS_MAX: usize = 64;

/// How a job ended.
type End = Option<Result<Value, Failure>>;

/// One job.
#[derive(Clone)]
struct Job {
    /// Its `Idempotency-Key`.
    key: String,
    /// What it was asked to do.
    request: String,
    progress: Progress,
    end: watch::Receiver<End>,
}

/// The jobs of this process.
#[derive(Default)]
pub(crate) struct Jobs(Mutex<VecDeque<Job>>);

impl Job {
    /// Whether its task is there and has not told its end.
    fn is_running(&self) -> bool {
        self.end.borrow().is_none() && self.end.has_changed().is_ok()
    }
}

impl Jobs {
    fn jobs(&self) -> MutexGuard<'_, VecDeque<Job>> {
        // The list is whole whenever its holder could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &str) -> Option<Job> {
        self.jobs().iter().find(|job| job.key == key).cloned()
    }

    /// Whether a job has this key.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Starts a job in a task of its own, unless one under this key is there.
    pub(crate) fn start<T, W>(
        &self,
        key: &str,
        request: String,
        work: impl FnOnce(Progress) -> W,
    ) -> Result<(), Problem>
    where
        T: Serialize,
        W: Future<Output = Result<T, WorkspaceError>> + Send + 'static,
    {
        // Held until it is there, so that two calls under one key start one job.
        let mut jobs = self.jobs();
        if let Some(job) = jobs.iter().find(|job| job.key == key) {
            let other = || WorkspaceError::OtherRequest { key: key.to_owned() };
            return if job.request == request { Ok(()) } else { Err(other().into()) };
        }
        let (to, end) = watch::channel(None);
        let progress = Progress::default();
        let work = work(progress.clone());
        tokio::spawn(async move {
            let end = match work.await.map(|reply| serde_json::to_value(reply)) {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(_)) => {
                    Err(Failure::from(&WorkspaceError::NoResult { what: "the store".to_owned() }))
                }
                Err(error) => Err(Failure::from(&error)),
            };
            to.send_replace(Some(end));
        });
        while jobs.len() >= JOBS_MAX
            && let Some(ended) = jobs.iter().position(|job| !job.is_running())
        {
            jobs.remove(ended);
        }
        jobs.push_back(Job { key: key.to_owned(), request, progress, end });
        Ok(())
    }

    /// How far a job is, or what it came to.
    pub(crate) fn operation(&self, key: &str, request_id: &str) -> Option<wire::Operation> {
        let job = self.find(key)?;
        // A job whose task is gone without an end has panicked.
        let is_gone = job.end.has_changed().is_err();
        let end = job.end.borrow().clone();
        let (state, result, failure) = match end {
            Some(Ok(value)) => ("done", Some(value), None),
            Some(Err(failure)) => ("failed", None, Some(failure)),
            None if is_gone => {
                let gone = WorkspaceError::NoResult { what: "the store".to_owned() };
                ("failed", None, Some(Failure::from(&gone)))
            }
            None => ("running", None, None),
        };
        Some(wire::Operation {
            id: job.key,
            state: state.to_owned(),
            progress: job.progress.look(),
            result,
            error: failure.map(|failure| Problem::from(failure).told(request_id)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_is_found_as_long_as_it_runs() {
        let jobs = Jobs::default();
        let (release, gate) = watch::channel(false);
        let start = |key: &str, mut gate: watch::Receiver<bool>| {
            let work = |_| async move {
                // The sender outlives the jobs of this test.
                let _ = gate.wait_for(|open| *open).await;
                Ok::<_, WorkspaceError>(())
            };
            assert!(jobs.start(key, "verify".to_owned(), work).is_ok());
        };
        start("first", gate.clone());
        let open = watch::channel(true).1;
        for n in 0..2 * JOBS_MAX {
            let key = format!("short-{n}");
            start(&key, open.clone());
            while jobs.find(&key).is_some_and(|job| job.is_running()) {
                tokio::task::yield_now().await;
            }
        }
        let state = |key: &str| jobs.operation(key, "r").map(|operation| operation.state);
        assert_eq!(state("first").as_deref(), Some("running"));
        assert_eq!(state("short-0"), None);
        assert_eq!(jobs.jobs().len(), JOBS_MAX);
        release.send_replace(true);
        while jobs.find("first").is_some_and(|job| job.is_running()) {
            tokio::task::yield_now().await;
        }
        assert_eq!(state("first").as_deref(), Some("done"));
    }
}
