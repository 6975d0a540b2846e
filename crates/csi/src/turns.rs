//! One call at a time on each thing.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cove_types::VolumeId;

use crate::status::{CallError, excerpt};

/// What only one call at a time works on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Thing {
    /// A volume.
    Volume(VolumeId),
    /// A place where something is mounted, as its path is without links.
    Place(PathBuf),
}

impl From<&VolumeId> for Thing {
    fn from(volume: &VolumeId) -> Self {
        Self::Volume(volume.clone())
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(volume) => write!(f, "volume {volume}"),
            Self::Place(path) => f.write_str(&excerpt(&path.to_string_lossy())),
        }
    }
}

/// The things that a call is under way on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<BTreeSet<Thing>>>);

/// A turn; over when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    thing: Thing,
}

impl Turns {
    /// Takes the turn on a thing. Does not wait: while another call has it, this one is refused.
    pub(crate) fn take(&self, thing: impl Into<Thing>) -> Result<Turn, CallError> {
        let thing = thing.into();
        let is_free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(thing.clone());
        match is_free {
            true => Ok(Turn { turns: self.clone(), thing }),
            false => Err(CallError::Busy { what: thing.to_string() }),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.thing);
    }
}

/// Does something to its end although the caller goes: who takes the next turn finds it done, and not under way.
pub(crate) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, CallError>> + Send + 'static,
) -> Result<T, CallError> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(CallError::broken(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_call_on_a_thing_is_refused_until_the_first_ends() {
        let turns = Turns::default();
        let volume = |id: &str| Thing::Volume(id.parse().unwrap());
        let turn = turns.take(volume("a")).unwrap();
        let refused = turns.take(volume("a")).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Aborted);
        assert_eq!(refused.to_string(), "another call on volume a is under way");
        turns.take(volume("b")).unwrap();
        let place = turns.take(Thing::Place("a".into())).unwrap();
        let refused = turns.take(Thing::Place("a".into())).unwrap_err();
        assert_eq!(refused.to_string(), "another call on a is under way");
        drop((turn, place));
        turns.take(volume("a")).unwrap();
    }
}
