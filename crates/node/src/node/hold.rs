//! The hold on the store: renewed while a node runs, and asked about in between.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use cove_content::claim::{KEY, RECORD_BYTES_MAX, StoreRecord, Take};
use cove_content::volumes::VolumeError;
use cove_objects::{Key, ReadError};
use cove_types::{Classify, ErrorKind, chain};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, interval_at, timeout};

use crate::claim::{Holding, claim_store};
use crate::node::reread::reread_heads;
use crate::node::{Inner, RETRY};

/// How often the hold is renewed.
const RENEW: Duration = Duration::from_secs(20);
/// How long a renewal may take; a first claim tries the store out and may take longer.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
const CLAIM_WITHIN: Duration = Duration::from_secs(120);
/// How often the store is looked at while something waits to be saved, and how old what is known of it
/// may be when somebody asks. With [`ANSWER_WITHIN`] it is told within 5 s that a store is silent.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is seen whether something waits; what is saved within that asks for no look.
const TICK: Duration = Duration::from_secs(1);
/// How long a store may take for a question that is put to see whether it answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long whoever asks for a volume waits for that.
const SHOW_WITHIN: Duration = Duration::from_millis(500);

/// What is known of the store.
#[derive(Debug)]
pub(crate) struct Hold {
    known: RwLock<Known>,
    /// Whether it is being asked.
    is_asking: AtomicBool,
    /// Wakes the task that renews the hold.
    pub renew: Notify,
}

#[derive(Debug)]
struct Known {
    holding: Holding,
    /// Since when that is so.
    since: Timestamp,
    /// Whether this node has held it since the start.
    was_held: bool,
    /// Why the store does not answer, as of the last question, and since when.
    silent: Option<(String, Timestamp)>,
    /// When it was last asked, since the machine started.
    asked: Duration,
    /// When it last answered, since the machine started.
    heard: Duration,
}

impl Hold {
    pub fn new(holding: Holding, since: Timestamp, asked: Duration) -> Self {
        let was_held = holding == Holding::Held;
        let known = Known { holding, since, was_held, silent: None, asked, heard: Duration::ZERO };
        Self { known: RwLock::new(known), is_asking: AtomicBool::new(false), renew: Notify::new() }
    }

    fn read<T>(&self, of: impl FnOnce(&Known) -> T) -> T {
        of(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, of: impl FnOnce(&mut Known) -> T) -> T {
        of(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in that the store has answered.
    fn heard(&self, at: Duration) {
        self.write(|known| {
            known.silent = None;
            known.heard = at;
        });
    }

    /// Takes in that a question which was asked at a time has had no answer. One to a later question says more.
    fn not_heard(&self, asked: Duration, why: String, now: Timestamp) {
        self.write(|known| {
            if known.heard <= asked {
                let since = known.silent.as_ref().map_or(now, |(_, since)| *since);
                known.silent = Some((why, since));
            }
        });
    }
}

impl Inner {
    pub fn holding(&self) -> Holding {
        self.hold.read(|known| known.holding.clone())
    }

    /// Whether this home can tell what is not in its store: it has held it since the start, or it remembers a head or
    /// one that it could not read.
    pub fn knows_its_store(&self) -> bool {
        self.hold.read(|known| known.was_held)
            || !self.unread().is_empty()
            || self.all_volumes().iter().any(|volume| volume.state().known.is_some())
    }

    /// Since when the hold is what it is.
    pub fn held_since(&self) -> Timestamp {
        self.hold.read(|known| known.since)
    }

    /// Why a store that was answering does not, and since when.
    pub fn silent(&self) -> Option<(String, Timestamp)> {
        self.hold.read(|known| known.silent.clone())
    }

    pub fn set_holding(&self, holding: Holding) {
        let now = self.env.now();
        if !matches!(holding, Holding::Unknown { .. }) {
            self.heard();
        }
        self.hold.write(|known| {
            if std::mem::discriminant(&known.holding) != std::mem::discriminant(&holding) {
                known.since = now;
            }
            known.was_held |= holding == Holding::Held;
            known.holding = holding;
        });
    }

    /// Takes in that the store has answered: what was known of its silence is over.
    pub fn heard(&self) {
        self.hold.heard(self.env.since_boot());
    }

    fn set_silent(&self, asked: Duration, why: String) {
        self.hold.not_heard(asked, why, self.env.now());
    }

    /// How old what is known of the store is.
    fn asked_ago(&self) -> Duration {
        self.env.since_boot().saturating_sub(self.hold.read(|known| known.asked))
    }

    /// Whether somebody waits for the store.
    fn is_awaited(&self) -> bool {
        self.silent().is_some()
            || self.all_volumes().iter().any(|volume| !volume.state().queue.is_empty())
    }
}

/// Claims a store for the first time since the start; one that does not answer is left to the task that
/// renews.
pub(crate) async fn claim_within(
    within: Duration,
    claim: impl Future<Output = Result<Holding, VolumeError>>,
) -> Result<Holding, VolumeError> {
    match timeout(within, claim).await {
        Ok(Err(error)) if error.kind() == ErrorKind::Precondition => Err(error),
        Ok(Err(error)) => Ok(Holding::Unknown { why: chain(&error) }),
        Ok(claimed) => claimed,
        Err(_) => Ok(Holding::Unknown { why: silence(within) }),
    }
}

fn silence(within: Duration) -> String {
    format!("no answer within {} s", within.as_secs())
}

/// Asks the store who holds it, with one GET; what the answer says is known from then on.
pub(crate) async fn ask(inner: &Inner) {
    let asked = inner.env.since_boot();
    inner.hold.write(|known| known.asked = asked);
    let Ok(key) = Key::parse(KEY) else { return };
    let found =
        match timeout(ANSWER_WITHIN, inner.remote.store().get(&key, RECORD_BYTES_MAX as u64)).await
        {
            Ok(Ok(found)) => found,
            // a store that somebody emptied answers
            Ok(Err(ReadError::NotFound { .. })) => return inner.hold.renew.notify_one(),
            Ok(Err(error)) => return inner.set_silent(asked, chain(&error)),
            Err(_) => return inner.set_silent(asked, silence(ANSWER_WITHIN)),
        };
    // what cannot be read is for the renewal to say
    let Ok(record) = StoreRecord::decode(&found.bytes) else {
        return inner.hold.renew.notify_one();
    };
    let was_held = inner.holding() == Holding::Held;
    inner.heard();
    if record.holder == inner.options.holder {
        if !was_held {
            inner.hold.renew.notify_one();
        }
        return;
    }
    let age = found.age;
    let alive = age.is_none_or(|age| age < cove_content::claim::ALIVE_FOR);
    let age_seconds = age.map(|age| age.as_secs());
    let holding = Holding::HeldByAnother { holder: record.holder, age_seconds, alive };
    if was_held {
        tracing::error!(?holding, "the store is lost to another Cove");
        inner.set_holding(holding);
    }
}

/// One look at the store at a time, until this is dropped.
struct Asking(Arc<Inner>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.hold.is_asking.store(false, Ordering::SeqCst);
    }
}

/// Sees to it that what is known of the store is some seconds old at most, for whoever asks how a volume
/// is; waits only a moment for a store that does not answer.
pub(crate) async fn refresh(inner: &Arc<Inner>) {
    if inner.asked_ago() < LOOK || inner.hold.is_asking.swap(true, Ordering::SeqCst) {
        return;
    }
    let asking = Asking(Arc::clone(inner));
    let asked = tokio::spawn(async move { ask(&asking.0).await });
    let _ = timeout(SHOW_WITHIN, asked).await;
}

/// Renews the hold, asks again soon where there is none, and looks at the store while something waits.
pub(crate) async fn renew_in_turn(inner: Arc<Inner>) {
    let mut renewals = interval_at(Instant::now() + RENEW, RENEW);
    renewals.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_awaited = false;
    loop {
        let is_unknown = matches!(inner.holding(), Holding::Unknown { .. });
        let pause = if is_unknown { RETRY.0 } else { TICK };
        tokio::select! {
            _ = renewals.tick() => renew(&inner).await,
            () = inner.hold.renew.notified() => renew(&inner).await,
            () = tokio::time::sleep(pause) => match is_unknown {
                // a store that did not answer is asked again soon
                true => renew(&inner).await,
                false => {
                    let is_awaited = inner.is_awaited();
                    if is_awaited && was_awaited && inner.asked_ago() >= LOOK {
                        ask(&inner).await;
                    }
                    was_awaited = is_awaited;
                }
            },
        }
    }
}

async fn renew(inner: &Arc<Inner>) {
    let asked = inner.env.since_boot();
    let store = Arc::clone(inner.remote.store());
    let (me, signs) = (&inner.options.holder, &inner.signs);
    let is_unknown = matches!(inner.holding(), Holding::Unknown { .. });
    let within = if is_unknown { CLAIM_WITHIN } else { RENEW_WITHIN };
    let claimed = timeout(within, claim_store(&store, &inner.env, me, Take::No, signs)).await;
    inner.hold.write(|known| known.asked = asked);
    let why = match claimed {
        Ok(Ok(holding)) => {
            if holding != Holding::Held && inner.holding() == Holding::Held {
                tracing::error!(?holding, "the store is lost to another Cove");
            }
            inner.set_holding(holding);
            let rereading = Arc::clone(inner);
            let _ = tokio::task::spawn_blocking(move || reread_heads(&rereading)).await;
            return;
        }
        Ok(Err(error)) => chain(&error),
        Err(_) => silence(within),
    };
    match inner.holding() {
        Holding::Unknown { .. } => inner.set_holding(Holding::Unknown { why }),
        Holding::Held | Holding::HeldByAnother { .. } => inner.set_silent(asked, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_without_an_answer_says_less_than_an_answer_that_came_after_it() {
        let now = Timestamp::UNIX_EPOCH;
        let at = Duration::from_secs;
        let hold = Hold::new(Holding::Held, now, at(1));
        let silent = || hold.read(|known| known.silent.is_some());
        hold.not_heard(at(2), "no answer".into(), now);
        assert!(silent());
        // a save is acknowledged, and the older question gives up only then
        hold.heard(at(4));
        hold.not_heard(at(3), "no answer".into(), now);
        assert!(!silent());
        hold.not_heard(at(4), "no answer".into(), now);
        assert!(silent());
    }
}
