//! Work on the whole store, which no project's operations know: recovering and checking.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use cove_content::volumes::Progress;
use cove_types::wire;
use cove_workspace::{Failure, WorkspaceError};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use crate::problem::Problem;

/// How many jobs are remembered, the oldest forgotten first.
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

impl Jobs {
    fn find(&self, key: &str) -> Option<Job> {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.iter().find(|job| job.key == key).cloned()
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
        if let Some(job) = self.find(key) {
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
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() == JOBS_MAX {
            jobs.pop_front();
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
            error: failure.map(|failure| Problem::from(failure).details(request_id)),
        })
    }
}
