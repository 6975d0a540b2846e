//! Holding a store: one Cove at a time writes there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cove_content::claim::{ClaimError, KEY, Probe, RECORD_BYTES_MAX, Take, claim};
use cove_content::head::{Nonce, Stamp};
use cove_content::volumes::VolumeError;
use cove_env::Env;
use cove_objects::{Key, ReadError, Rules, Store};
use cove_types::StoreHolderId;
use jiff::Timestamp;

/// Whether this Cove may write to its store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// It holds it.
    Held,
    /// Another does; nothing is written there until it is taken over.
    HeldByAnother {
        /// Who.
        holder: StoreHolderId,
        /// Seconds since its last sign of life, by the store's clock; absent when it does not say.
        age_seconds: Option<u64>,
        /// Whether that is recent.
        alive: bool,
    },
    /// The store has not answered yet.
    Unknown {
        /// What it said instead.
        why: String,
    },
}

/// The signs of life that this process gave, by which it notices another that goes by its name.
#[derive(Debug, Default)]
pub(crate) struct SignsOfLife(Mutex<Signs>);

#[derive(Debug, Default)]
struct Signs {
    /// What this process put or tried to put last; an answer that was lost leaves it open which.
    own: VecDeque<Nonce>,
    /// Since when another gives them too.
    another: Option<Timestamp>,
}

/// How many of its own signs of life a process remembers: those of some minutes.
const SIGNS_MAX: usize = 64;

impl SignsOfLife {
    fn signs(&self) -> MutexGuard<'_, Signs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stamp of the next sign.
    fn stamp(&self, env: &Env) -> Stamp {
        let stamp = Stamp { time: env.now(), nonce: Nonce(env.random()) };
        let mut signs = self.signs();
        signs.own.push_back(stamp.nonce);
        if signs.own.len() > SIGNS_MAX {
            signs.own.pop_front();
        }
        stamp
    }

    /// Takes in that `sign` of this holder was replaced by one of this process; `is_first`: what was
    /// there before was an earlier process's.
    fn replaced(&self, sign: Nonce, is_first: bool, now: Timestamp) {
        let mut signs = self.signs();
        if is_first || signs.own.contains(&sign) {
            signs.another = None;
            return;
        }
        if signs.another.is_none() {
            signs.another = Some(now);
            tracing::error!("another copy of this Cove holds the same store under the same name");
        }
    }

    /// Since when another process gives signs of life under the same name; `None` when none does.
    pub fn another(&self) -> Option<Timestamp> {
        self.signs().another
    }
}

/// Takes the store, renews the hold, or says who has it.
///
/// A store that nobody ever held is probed first: one without atomic conditional
/// writes is refused and nothing of ours stays there but what the probe wrote.
///
/// # Errors
///
/// The store is unfit (`Precondition`), or its record cannot be read or written.
pub(crate) async fn claim_store(
    store: &Arc<dyn Store>,
    env: &Env,
    me: &StoreHolderId,
    take: Take,
    signs: &SignsOfLife,
) -> Result<Holding, VolumeError> {
    let key = Key::parse(KEY)
        .map_err(|error| VolumeError::failed("failed to name the store's record", error))?;
    let probe = match store.get(&key, RECORD_BYTES_MAX as u64).await {
        Ok(_) => None,
        Err(ReadError::NotFound { .. }) => {
            let found = cove_objects::probe(store.as_ref(), env)
                .await
                .map_err(|source| VolumeError::failed("the store cannot be used", source))?;
            let (versioning, notes) = match found.rules {
                Rules::None => (Some(false), Vec::new()),
                Rules::Versioning => {
                    let note = "the store keeps old versions of objects, which cost room";
                    (Some(true), vec![note.to_owned()])
                }
                Rules::Unreadable { why } => {
                    (None, vec![format!("the rules of the store could not be read: {why}")])
                }
                // refused by the probe
                Rules::Harmful { what } => (None, vec![what]),
            };
            Some(Probe { time: env.now(), racers: found.racers, versioning, notes })
        }
        Err(source) => {
            return Err(VolumeError::failed("failed to read who holds the store", source));
        }
    };
    let is_first = signs.signs().own.is_empty();
    match claim(store.as_ref(), me, take, probe.as_ref(), || signs.stamp(env)).await {
        Ok(held) => {
            if let Some(sign) = held.renewed {
                signs.replaced(sign, is_first, env.now());
            }
            Ok(Holding::Held)
        }
        Err(ClaimError::HeldByOther { holder, age, alive }) => {
            let age_seconds = age.map(|age| age.as_secs());
            Ok(Holding::HeldByAnother { holder, age_seconds, alive })
        }
        Err(source) => Err(VolumeError::failed("failed to take the store", source)),
    }
}

/// When the holder was last seen, for people.
pub(crate) fn last_seen(age_seconds: Option<u64>) -> String {
    age_seconds.map_or_else(String::new, |age| format!(", last seen {age} s ago"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_of_the_same_name_is_noticed_and_forgotten_once_it_is_silent() {
        let (env, signs) = (Env::system(), SignsOfLife::default());
        let now = Timestamp::UNIX_EPOCH;
        let first = signs.stamp(&env);
        signs.replaced(Nonce([7; 8]), true, now);
        assert_eq!(signs.another(), None, "an earlier process's sign");
        let second = signs.stamp(&env);
        signs.replaced(first.nonce, false, now);
        assert_eq!(signs.another(), None, "its own sign");
        signs.replaced(Nonce([8; 8]), false, now);
        assert_eq!(signs.another(), Some(now));
        signs.replaced(Nonce([9; 8]), false, Timestamp::MAX);
        assert_eq!(signs.another(), Some(now), "since the first time");
        signs.replaced(second.nonce, false, now);
        assert_eq!(signs.another(), None);
    }
}
