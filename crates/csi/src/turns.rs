//! One call at a time on each volume.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use cove_types::VolumeId;

use crate::status::CallError;

/// The volumes that a call is under way on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<BTreeSet<VolumeId>>>);

/// A turn; over when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    volume: VolumeId,
}

impl Turns {
    /// Takes the turn on a volume. Does not wait: while another call has it, this one is refused.
    pub(crate) fn take(&self, volume: &VolumeId) -> Result<Turn, CallError> {
        let is_free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(volume.clone());
        match is_free {
            true => Ok(Turn { turns: self.clone(), volume: volume.clone() }),
            false => Err(CallError::busy(volume)),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.volume);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_call_on_a_volume_is_refused_until_the_first_ends() {
        let turns = Turns::default();
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let turn = turns.take(&a).unwrap();
        assert_eq!(turns.take(&a).unwrap_err().code(), tonic::Code::Aborted);
        turns.take(&b).unwrap();
        drop(turn);
        turns.take(&a).unwrap();
    }
}
