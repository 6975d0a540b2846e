//! Holding a store: one Cove at a time writes there.

use std::sync::Arc;

use cove_content::claim::{ClaimError, KEY, Probe, Take, claim};
use cove_content::head::{Nonce, Stamp};
use cove_content::volumes::VolumeError;
use cove_env::Env;
use cove_objects::{Key, ReadError, Store};
use cove_types::StoreHolderId;

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

fn stamp(env: &Env) -> Stamp {
    Stamp { time: env.now(), nonce: Nonce(env.random()) }
}

/// Takes the store, renews the hold, or says who has it.
///
/// A store that nobody ever held is probed first: one without atomic conditional
/// writes is refused and nothing of ours stays there but what the probe wrote.
///
/// # Errors
///
/// The store is unfit (`Precondition`), or its record cannot be read or written.
pub async fn claim_store(
    store: &Arc<dyn Store>,
    env: &Env,
    me: &StoreHolderId,
    take: Take,
) -> Result<Holding, VolumeError> {
    let key = Key::parse(KEY)
        .map_err(|error| VolumeError::failed("failed to name the store's record", error))?;
    let probe = match store.get(&key).await {
        Ok(_) => None,
        Err(ReadError::NotFound { .. }) => {
            let found = cove_objects::probe(store.as_ref(), env)
                .await
                .map_err(|source| VolumeError::failed("the store cannot be used", source))?;
            let racers = found.racers;
            Some(Probe { time: env.now(), racers, versioning: None, notes: Vec::new() })
        }
        Err(source) => {
            return Err(VolumeError::failed("failed to read who holds the store", source));
        }
    };
    match claim(store.as_ref(), me, take, probe.as_ref(), || stamp(env)).await {
        Ok(_) => Ok(Holding::Held),
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
