//! Calls under their keys: bound once, worked once, joined by whoever repeats them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cove_content::volumes::{Call, Progress};
use cove_database::{
    AuditRecord, DatabaseError, Lent, OperationRow, OperationState, OperationUpdate, ServerDatabase,
};
use cove_env::Env;
use cove_types::{Classify, EntryId, ErrorKind, OperationId, VolumeId, wire};
use futures::future::{Either, select};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::request::{Key, operation_of, parse_key, request_digest};
use crate::{Failure, Request, Saving, Started, WorkspaceError};

/// What a restore is called in the rows of operations.
pub(crate) const RESTORE: &str = "project.restore";

/// What a call is, before it is bound.
pub(crate) struct Ask<'a> {
    pub(crate) request: &'a Request,
    /// Which call, such as `project.fork`.
    pub(crate) kind: &'static str,
    /// What it is about, for the audit log.
    pub(crate) resource: String,
    /// Its arguments, as they were given.
    pub(crate) arguments: Value,
    /// Whether it removes something, which is to be had where there is no room.
    pub(crate) removes: bool,
}

/// How often something is written again where there was no room, and how long after: what else is
/// written there takes what room there is, and gives it back when it fails.
const AGAIN: (u32, Duration) = (10, Duration::from_millis(100));
/// How long a removal has what is kept for removals. What it writes is written by then; what it waits
/// for, such as a store that is away, may take hours, and meanwhile others remove something.
const ROOM_FOR: Duration = Duration::from_secs(10);

/// The volume that a call is about and the seq of its head, looked up when its key is new.
#[derive(Debug, Default)]
pub(crate) struct Target {
    pub(crate) volume: Option<VolumeId>,
    pub(crate) seq: u32,
}

/// A call that is bound.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) call: Call,
    /// Its key.
    key: String,
    /// Whether an attempt before this one did not come to its end.
    pub(crate) is_again: bool,
    /// The entry that an attempt before this one was about.
    entry: Option<EntryId>,
    /// The volume, as when the key was first bound, whatever its project is called now.
    pub(crate) volume: Option<VolumeId>,
    /// Whether it removes something.
    removes: bool,
}

impl Bound {
    /// The volume of a call that is about one.
    pub(crate) fn volume(&self) -> Result<VolumeId, WorkspaceError> {
        let what = || self.call.operation.to_string();
        self.volume.clone().ok_or_else(|| WorkspaceError::NoResult { what: what() })
    }
}

/// How far a running call is.
#[derive(Debug, Clone)]
enum Stage {
    Running,
    Captured(Value),
    Done(Value),
    Failed(Failure),
}

/// A call that runs in this process.
struct Live {
    operation: OperationId,
    request: [u8; 8],
    volume: Option<VolumeId>,
    progress: Progress,
    stage: watch::Receiver<Stage>,
}

/// What is known of an operation.
#[derive(Debug, Clone)]
pub struct Known {
    /// How far it is.
    pub state: OperationState,
    /// What it does.
    pub progress: wire::Progress,
    /// Its reply, once it is captured.
    pub result: Option<Value>,
    /// What it came to, when it failed.
    pub failure: Option<Failure>,
}

/// A principal's key.
type BoundKey = (String, String);

/// Locks by key: who binds one waits for nobody who binds another.
#[derive(Default)]
struct Locks(Mutex<HashMap<BoundKey, Arc<tokio::sync::Mutex<()>>>>);

/// A key that nobody else binds while this lives.
struct Locked<'a> {
    locks: &'a Locks,
    key: BoundKey,
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Locks {
    fn locks(&self) -> std::sync::MutexGuard<'_, HashMap<BoundKey, Arc<tokio::sync::Mutex<()>>>> {
        // Nothing that holds this lock leaves the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn lock(&self, key: BoundKey) -> Locked<'_> {
        let lock = Arc::clone(self.locks().entry(key.clone()).or_default());
        // Whole before it waits: who goes away while it does leaves no lock behind.
        let mut locked = Locked { locks: self, key, guard: None };
        locked.guard = Some(lock.lock_owned().await);
        locked
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let mut locks = self.locks.locks();
        self.guard = None;
        // Whoever waits for it holds it too, and takes it only from the map.
        if locks.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.key);
        }
    }
}

/// All calls of this server.
pub(crate) struct Operations {
    database: ServerDatabase,
    env: Env,
    /// Held while a key is looked up and bound, so that two calls with one key are one.
    binding: Locks,
    live: Mutex<HashMap<BoundKey, Arc<Live>>>,
}

/// What a key came to when it was asked for.
enum Found {
    /// To be worked, for the first time or after an interruption.
    Work(Bound, watch::Sender<Stage>, Arc<Live>),
    /// Somebody works it.
    Joined(Arc<Live>),
    /// It has ended.
    Ended(OperationId, Result<Value, Failure>),
}

impl Operations {
    pub(crate) fn new(database: ServerDatabase, env: Env) -> Self {
        let (binding, live) = (Locks::default(), Mutex::default());
        Self { database, env, binding, live }
    }

    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<BoundKey, Arc<Live>>> {
        // Nothing that holds this lock leaves the map half changed.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what is kept for removals to whoever writes, until what it returns is dropped; nothing
    /// when the runtime is ending.
    async fn room(&self) -> Option<Lent> {
        let reserve = self.database.reserve().clone();
        match tokio::task::spawn_blocking(move || reserve.lend()).await {
            Ok(lent) => Some(lent),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => None,
            },
        }
    }

    /// Writes what must be written: where there is no room, in that which is kept for removals.
    pub(crate) async fn write<F>(&self, attempt: impl Fn() -> F) -> Result<(), DatabaseError>
    where
        F: Future<Output = Result<(), DatabaseError>>,
    {
        let mut written = attempt().await;
        let is_full = |written: &Result<(), DatabaseError>| {
            written.as_ref().is_err_and(|error| error.kind() == ErrorKind::Exhausted)
        };
        if !is_full(&written) {
            return written;
        }
        let _room = self.room().await;
        let (times, after) = AGAIN;
        for _ in 0..times {
            written = attempt().await;
            if !is_full(&written) {
                break;
            }
            tokio::time::sleep(after).await;
        }
        written
    }

    /// Starts a call, joins the one that runs, or gives the result of the one that ended.
    ///
    /// `target` is asked only when the key is new; its error binds nothing. `work` runs in a
    /// task of its own. An error of it that a repetition would meet again is what the key gives from
    /// then on; after another one the key may be tried again.
    ///
    /// # Errors
    ///
    /// What the call came to, or [`WorkspaceError::OtherRequest`].
    pub(crate) async fn start<T, W>(
        self: &Arc<Self>,
        ask: Ask<'_>,
        target: impl Future<Output = Result<Target, WorkspaceError>>,
        work: impl FnOnce(Bound) -> W,
    ) -> Result<Started<T>, WorkspaceError>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        W: Future<Output = Result<(T, Saving<T>), WorkspaceError>> + Send + 'static,
    {
        let what = format!("{} of {}", ask.kind, ask.resource);
        let room = if ask.removes { self.room().await } else { None };
        match self.find(&ask, target).await? {
            Found::Ended(operation, Ok(value)) => {
                let done: T = read(&what, value.clone())?;
                let again: T = read(&what, value)?;
                let saved: Saving<T> = Box::pin(std::future::ready(Ok(again)));
                Ok(Started { operation, progress: ended(), captured: done, saved })
            }
            Found::Ended(_, Err(failure)) => Err(WorkspaceError::First(failure)),
            Found::Joined(live) => {
                drop(room);
                join(live, what).await
            }
            Found::Work(bound, stage, live) => {
                let task = Task {
                    operations: Arc::clone(self),
                    request: ask.request.clone(),
                    kind: ask.kind,
                    resource: ask.resource,
                    stage,
                };
                tokio::spawn(task.run(work(bound), room));
                join(live, what).await
            }
        }
    }

    /// Starts a call and waits for its end.
    pub(crate) async fn complete<T, W>(
        self: &Arc<Self>,
        ask: Ask<'_>,
        target: impl Future<Output = Result<Target, WorkspaceError>>,
        work: impl FnOnce(Bound) -> W,
    ) -> Result<T, WorkspaceError>
    where
        T: Serialize + DeserializeOwned + Clone + Send + 'static,
        W: Future<Output = Result<T, WorkspaceError>> + Send + 'static,
    {
        let started = self
            .start(ask, target, |bound| {
                let work = work(bound);
                async move {
                    let value: T = work.await?;
                    let saved: Saving<T> = Box::pin(std::future::ready(Ok(value.clone())));
                    Ok((value, saved))
                }
            })
            .await?;
        started.saved.await
    }

    async fn find(
        &self,
        ask: &Ask<'_>,
        target: impl Future<Output = Result<Target, WorkspaceError>>,
    ) -> Result<Found, WorkspaceError> {
        let Request { key, principal, .. } = ask.request;
        let parsed = parse_key(key)?;
        let request = request_digest(ask.kind, &ask.arguments);
        let bound_key = (principal.clone(), key.clone());
        let other = || WorkspaceError::OtherRequest { key: key.clone() };
        let binding = self.binding.lock(bound_key.clone()).await;
        let live = self.live().get(&bound_key).cloned();
        if let Some(live) = live {
            return if live.request == request { Ok(Found::Joined(live)) } else { Err(other()) };
        }
        let (operation, volume, entry, is_again) =
            match self.database.find_operation(principal, key).await? {
                Some(row) if row.request != request => return Err(other()),
                Some(row) => {
                    if let Some(end) = end_of(&row) {
                        return Ok(Found::Ended(row.operation, end));
                    }
                    (row.operation, row.volume, row.entry, true)
                }
                None => {
                    let target = target.await?;
                    let operation = match parsed {
                        Key::Id(operation) => operation,
                        Key::Text => operation_of(principal, key, target.seq),
                    };
                    let now_us = self.env.now().as_microsecond();
                    let row = OperationRow {
                        key: key.clone(),
                        principal: principal.clone(),
                        operation,
                        request: request.to_vec(),
                        kind: ask.kind.to_owned(),
                        volume: target.volume.clone(),
                        entry: None,
                        state: OperationState::Running,
                        result: None,
                        error: None,
                        created_us: now_us,
                        updated_us: now_us,
                    };
                    match ask.removes {
                        true => self.write(|| self.database.insert_operation(&row)).await?,
                        false => self.database.insert_operation(&row).await?,
                    }
                    (operation, target.volume, None, false)
                }
            };
        let (stage, receiver) = watch::channel(Stage::Running);
        let progress = Progress::default();
        let live = Arc::new(Live {
            operation,
            request,
            volume: volume.clone(),
            progress: progress.clone(),
            stage: receiver,
        });
        self.live().insert(bound_key, Arc::clone(&live));
        drop(binding);
        let call = Call { operation, principal: principal.clone(), request, progress };
        let (key, removes) = (key.clone(), ask.removes);
        let bound = Bound { call, key, is_again, entry, volume, removes };
        Ok(Found::Work(bound, stage, live))
    }

    /// Waits until each call about `volume` that runs now is captured or has ended: what it makes is
    /// nothing that a node could wait for before.
    pub(crate) async fn captured(&self, volume: &VolumeId) {
        let running: Vec<watch::Receiver<Stage>> = {
            let live = self.live();
            let about = live.values().filter(|live| live.volume.as_ref() == Some(volume));
            about.map(|live| live.stage.clone()).collect()
        };
        for mut stage in running {
            // one whose task is gone without a word has ended, too
            let _ = stage.wait_for(|stage| !matches!(stage, Stage::Running)).await;
        }
    }

    /// The entry that a call is about: the one that an attempt before was about or, at the first,
    /// what `resolve` gives, which is bound to the key before anything takes effect.
    pub(crate) async fn entry(
        &self,
        bound: &Bound,
        resolve: impl Future<Output = Result<EntryId, WorkspaceError>>,
    ) -> Result<EntryId, WorkspaceError> {
        if let Some(entry) = bound.entry {
            return Ok(entry);
        }
        let entry = resolve.await?;
        let bind = || self.database.bind_entry(&bound.call.principal, &bound.key, entry);
        match bound.removes {
            true => self.write(bind).await?,
            false => bind().await?,
        }
        Ok(entry)
    }

    /// Whether a request's key is that of an operation.
    pub(crate) async fn is_bound(&self, request: &Request) -> Result<bool, WorkspaceError> {
        let row = self.database.find_operation(&request.principal, &request.key).await?;
        Ok(row.is_some())
    }

    fn find_live(&self, operation: &OperationId) -> Option<Known> {
        let live = self.live().values().find(|live| live.operation == *operation).cloned()?;
        let stage = live.stage.borrow().clone();
        let progress = live.progress.look();
        let (state, result, failure) = match stage {
            Stage::Running => (OperationState::Running, None, None),
            Stage::Captured(value) => (OperationState::Captured, Some(value), None),
            Stage::Done(value) => (OperationState::Done, Some(value), None),
            Stage::Failed(failure) => (OperationState::Failed, None, Some(failure)),
        };
        Some(Known { state, progress, result, failure })
    }

    /// What is known of an operation: how far it is, or what it came to.
    ///
    /// Of one that nobody works, since Cove ended while it ran, nothing is known: whoever asks
    /// again with its key has it worked.
    pub(crate) async fn find_operation(
        &self,
        operation: &OperationId,
    ) -> Result<Option<Known>, WorkspaceError> {
        if let Some(known) = self.find_live(operation) {
            return Ok(Some(known));
        }
        let mut found = self.database.find_operation_by_id(operation).await?;
        if let Some(row) = found.as_ref().filter(|row| row.state == OperationState::Running) {
            // A key that is being bound has its row before it is among the living.
            let _binding = self.binding.lock((row.principal.clone(), row.key.clone())).await;
            if let Some(known) = self.find_live(operation) {
                return Ok(Some(known));
            }
            found = self.database.find_operation_by_id(operation).await?;
        }
        let Some(row) = found.filter(|row| row.state != OperationState::Running) else {
            return Ok(None);
        };
        let result = row.result.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let failure = row.error.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let step = match row.state {
            OperationState::Captured => "saving",
            OperationState::Running | OperationState::Done | OperationState::Failed => "",
        };
        let progress = wire::Progress { step: step.to_owned(), ..wire::Progress::default() };
        Ok(Some(Known { state: row.state, progress, result, failure }))
    }

    /// Writes down that a call is captured.
    async fn note(&self, request: &Request, captured: &Value) -> Result<(), WorkspaceError> {
        let update = OperationUpdate {
            state: OperationState::Captured,
            result: Some(captured.to_string()),
            error: None,
            at_us: self.env.now().as_microsecond(),
            audit: None,
        };
        Ok(self.database.update_operation(&request.principal, &request.key, update).await?)
    }

    /// Writes down how a call ended, with its record in the audit log.
    pub(crate) async fn end(
        &self,
        request: &Request,
        kind: &str,
        resource: &str,
        end: &Result<Value, Failure>,
    ) -> Result<(), WorkspaceError> {
        let at_us = self.env.now().as_microsecond();
        let outcome = match end {
            Ok(_) => "ok",
            Err(failure) => kind_word(failure.kind),
        };
        let audit = self.record(request, kind, resource, outcome, at_us);
        let state = if end.is_ok() { OperationState::Done } else { OperationState::Failed };
        let update = OperationUpdate {
            state,
            result: end.as_ref().ok().map(Value::to_string),
            error: end.as_ref().err().and_then(|failure| serde_json::to_string(failure).ok()),
            at_us,
            audit: Some(audit),
        };
        // what has happened is told truly, also by what has no room
        let Request { principal, key, .. } = request;
        let write = || self.database.update_operation(principal, key, update.clone());
        Ok(self.write(write).await?)
    }

    /// Writes a call that no key binds into the audit log.
    pub(crate) async fn audit<T>(
        &self,
        request: &Request,
        kind: &str,
        resource: &str,
        result: &Result<T, WorkspaceError>,
    ) -> Result<(), WorkspaceError> {
        let at_us = self.env.now().as_microsecond();
        let outcome = match result {
            Ok(_) => "ok",
            Err(error) => kind_word(error.kind()),
        };
        let record = self.record(request, kind, resource, outcome, at_us);
        let write = || self.database.append_audit(vec![record.clone()]);
        Ok(self.write(write).await?)
    }

    fn record(
        &self,
        request: &Request,
        kind: &str,
        resource: &str,
        outcome: &str,
        at_us: i64,
    ) -> AuditRecord {
        AuditRecord {
            at_us,
            principal: request.principal.clone(),
            action: kind.to_owned(),
            resource: resource.to_owned(),
            outcome: outcome.to_owned(),
            request_id: request.request_id.clone(),
        }
    }
}

/// A call at work.
struct Task {
    operations: Arc<Operations>,
    request: Request,
    kind: &'static str,
    resource: String,
    stage: watch::Sender<Stage>,
}

impl Task {
    /// Works; what is written at first has `room`.
    async fn run<T>(
        self,
        work: impl Future<Output = Result<(T, Saving<T>), WorkspaceError>>,
        room: Option<Lent>,
    ) where
        T: Serialize,
    {
        // Frees the key even when the work panics; whoever waits is told.
        let _live = Forget { operations: &self.operations, request: &self.request };
        let mut work = std::pin::pin!(self.work(work));
        let (end, _room) = match timeout(ROOM_FOR, &mut work).await {
            Ok(end) => (end, room),
            Err(_) => {
                drop(room);
                (work.await, None)
            }
        };
        // what was accepted goes on after the next start, which writes down how that ended
        let goes_on = matches!(&end, Err(error) if error.is_stopping());
        let end = end.map_err(|error| Failure::from(&error));
        if let Err(Failure { kind: ErrorKind::Internal, what, .. }) = &end {
            // Who asks how it went is told no more than that.
            tracing::error!(kind = self.kind, resource = self.resource,
                request_id = %self.request.request_id, error = what, "a call failed");
        }
        let written = match goes_on {
            true => Ok(()),
            false => self.operations.end(&self.request, self.kind, &self.resource, &end).await,
        };
        if let Err(error) = written {
            // The key can be asked for again: its operation id gives the same result then.
            tracing::warn!(kind = self.kind, request_id = %self.request.request_id, %error,
                "failed to write down how a call ended");
        }
        // Told last, so that who is told and asks again finds it written.
        self.stage.send_replace(match end {
            Ok(value) => Stage::Done(value),
            Err(failure) => Stage::Failed(failure),
        });
    }

    async fn work<T>(
        &self,
        work: impl Future<Output = Result<(T, Saving<T>), WorkspaceError>>,
    ) -> Result<Value, WorkspaceError>
    where
        T: Serialize,
    {
        let written = |value: &T| {
            let failed = |_| WorkspaceError::NoResult { what: self.resource.clone() };
            serde_json::to_value(value).map_err(failed)
        };
        let (captured, saved) = work.await?;
        let captured = written(&captured)?;
        self.stage.send_replace(Stage::Captured(captured.clone()));
        // Beside the saving, which is not to wait for it; a restart goes on from the row.
        let noted = std::pin::pin!(self.operations.note(&self.request, &captured));
        let told = |noted: Result<(), WorkspaceError>| {
            if let Err(error) = noted {
                tracing::warn!(kind = self.kind, request_id = %self.request.request_id, %error,
                    "failed to write down that a call is captured");
            }
        };
        let saved = match select(saved, noted).await {
            // the next start goes on from what is written
            Either::Left((Err(error), noted)) if error.is_stopping() => {
                told(noted.await);
                Err(error)
            }
            Either::Left((saved, _)) => saved,
            Either::Right((noted, saved)) => {
                told(noted);
                saved.await
            }
        };
        written(&saved?)
    }
}

/// Takes a call out of the living ones when it is dropped.
struct Forget<'a> {
    operations: &'a Operations,
    request: &'a Request,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let key = (self.request.principal.clone(), self.request.key.clone());
        self.operations.live().remove(&key);
    }
}

/// Waits until a call is captured, and goes on waiting in what it returns.
async fn join<T>(live: Arc<Live>, what: String) -> Result<Started<T>, WorkspaceError>
where
    T: DeserializeOwned + Send + 'static,
{
    let gone = |what: &str| WorkspaceError::NoResult { what: what.to_owned() };
    let mut stage = live.stage.clone();
    let first = stage
        .wait_for(|stage| !matches!(stage, Stage::Running))
        .await
        .map_err(|_| gone(&what))?
        .clone();
    let captured = match first {
        Stage::Captured(value) | Stage::Done(value) => read(&what, value)?,
        Stage::Failed(failure) => return Err(WorkspaceError::First(failure)),
        Stage::Running => return Err(gone(&what)),
    };
    let saved = async move {
        let end = stage
            .wait_for(|stage| matches!(stage, Stage::Done(_) | Stage::Failed(_)))
            .await
            .map_err(|_| gone(&what))?
            .clone();
        match end {
            Stage::Done(value) => read(&what, value),
            Stage::Failed(failure) => Err(WorkspaceError::First(failure)),
            Stage::Running | Stage::Captured(_) => Err(gone(&what)),
        }
    };
    let (operation, progress) = (live.operation, live.progress.clone());
    Ok(Started { operation, progress, captured, saved: Box::pin(saved) })
}

/// What a row says that a repetition gets without work.
fn end_of(row: &OperationRow) -> Option<Result<Value, Failure>> {
    match row.state {
        OperationState::Running | OperationState::Captured => None,
        OperationState::Done => serde_json::from_str(row.result.as_deref()?).ok().map(Ok),
        OperationState::Failed => {
            let failure: Failure = serde_json::from_str(row.error.as_deref()?).ok()?;
            failure.is_final().then_some(Err(failure))
        }
    }
}

fn read<T: DeserializeOwned>(what: &str, value: Value) -> Result<T, WorkspaceError> {
    serde_json::from_value(value).map_err(|_| WorkspaceError::NoResult { what: what.to_owned() })
}

fn ended() -> Progress {
    let progress = Progress::default();
    progress.step("done");
    progress
}

/// The word of a kind, as in JSON.
fn kind_word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "invalid",
        ErrorKind::NotFound => "not_found",
        ErrorKind::AlreadyExists => "already_exists",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Precondition => "precondition",
        ErrorKind::Exhausted => "exhausted",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Denied => "denied",
        ErrorKind::TimedOut => "timed_out",
        ErrorKind::Internal => "internal",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use cove_env::{ManualClock, SeededChance};
    use futures::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    async fn operations(dir: &Path) -> Arc<Operations> {
        let clock = Arc::new(ManualClock::new("2026-11-25T12:00:00Z".parse().unwrap()));
        let env = Env::new(clock, Arc::new(SeededChance::new(7)));
        let database = ServerDatabase::open(&dir.join("server.db")).await.unwrap();
        Arc::new(Operations::new(database, env))
    }

    #[tokio::test]
    async fn a_removal_that_waits_for_the_store_leaves_what_is_kept_to_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let operations = operations(dir.path()).await;
        let reserve = operations.database.reserve().clone();
        let (begins, begun) = oneshot::channel();
        tokio::spawn(async move {
            let (key, principal) = ("remove".to_owned(), "owner".to_owned());
            let request = Request { key, principal, request_id: "r1".into() };
            let ask = Ask {
                request: &request,
                kind: "project.trash",
                resource: "shop".to_owned(),
                arguments: Value::Null,
                removes: true,
            };
            let work = |_| async move {
                begins.send(()).unwrap();
                std::future::pending::<Result<Value, WorkspaceError>>().await
            };
            operations.complete(ask, async { Ok(Target::default()) }, work).await
        });
        begun.await.unwrap();
        let place = dir.path().join("server.reserve");
        let is_taken_back = || {
            let _ = std::fs::remove_file(&place);
            reserve.fill();
            place.exists()
        };
        assert!(!is_taken_back(), "what it writes has room");
        tokio::time::pause();
        tokio::time::advance(ROOM_FOR + Duration::from_secs(1)).await;
        tokio::time::resume();
        let taken_back = async {
            while !is_taken_back() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), taken_back).await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_for_a_volume_waits_for_what_is_not_captured_yet() {
        let dir = tempfile::tempdir().unwrap();
        let operations = operations(dir.path()).await;
        let volume: VolumeId = "vol-shop".parse().unwrap();
        let ((begins, begun), (capture, captured)) = (oneshot::channel(), oneshot::channel());
        let (restores, about) = (Arc::clone(&operations), volume.clone());
        tokio::spawn(async move {
            let (key, principal) = ("restore".to_owned(), "owner".to_owned());
            let request = Request { key, principal, request_id: "r1".into() };
            let ask = Ask {
                request: &request,
                kind: RESTORE,
                resource: "shop".to_owned(),
                arguments: Value::Null,
                removes: false,
            };
            let work = |_| async move {
                begins.send(()).unwrap();
                captured.await.unwrap();
                let never: Saving<Value> = Box::pin(std::future::pending());
                Ok((Value::Null, never))
            };
            let target = Target { volume: Some(about), seq: 1 };
            restores.start(ask, async { Ok(target) }, work).await.map(drop)
        });
        begun.await.unwrap();
        let mut waiting = Box::pin(operations.captured(&volume));
        assert!(waiting.as_mut().now_or_never().is_none(), "it is not captured");
        let other = "vol-other".parse().unwrap();
        assert!(operations.captured(&other).now_or_never().is_some(), "another one's");
        capture.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap();
    }

    #[tokio::test]
    async fn who_binds_a_key_waits_for_those_of_the_same_key_only() {
        let locks = Locks::default();
        let key = |key: &str| ("owner".to_owned(), key.to_owned());
        let first = locks.lock(key("a")).await;
        let second = locks.lock(key("b")).now_or_never();
        assert!(second.is_some(), "another key");
        assert!(locks.lock(key("a")).now_or_never().is_none(), "the same key");
        let mut waiting = Box::pin(locks.lock(key("a")));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        drop(waiting.await);
        drop(second);
        assert_eq!(locks.locks().len(), 0);
    }
}
