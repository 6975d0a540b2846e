//! Which calls are under way.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cove_types::{VolumeId, VolumeName};

use crate::HubError;
use crate::error::shown;

/// What only one call at a time may change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Thing {
    /// The name of a volume that is to be made.
    Name(VolumeName),
    /// A volume.
    Volume(VolumeId),
    /// The name of snapshots that are to be made.
    SnapshotName(VolumeName),
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "a volume called \"{}\"", shown(name)),
            Self::Volume(volume) => write!(f, "volume {volume}"),
            Self::SnapshotName(name) => write!(f, "a snapshot called \"{}\"", shown(name)),
        }
    }
}

/// The things that calls are under way on. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight(Arc<Mutex<HashSet<Thing>>>);

/// A call under way; its things are free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    in_flight: InFlight,
    things: Vec<Thing>,
}

impl InFlight {
    /// Begins a call on some things, all of them or none. Does not wait.
    ///
    /// # Errors
    ///
    /// [`HubError::Busy`], with the first thing that another call is under way on.
    pub(crate) fn begin(&self, things: Vec<Thing>) -> Result<Guard, HubError> {
        let mut busy = self.busy();
        match things.iter().find(|thing| busy.contains(thing)) {
            Some(thing) => Err(HubError::Busy { what: thing.to_string() }),
            None => {
                busy.extend(things.iter().cloned());
                Ok(Guard { in_flight: self.clone(), things })
            }
        }
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<Thing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut busy = self.in_flight.busy();
        for thing in &self.things {
            busy.remove(thing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(id: &str) -> Thing {
        Thing::Volume(id.parse().unwrap())
    }

    #[test]
    fn a_second_call_on_one_thing_is_refused_until_the_first_ends() {
        let in_flight = InFlight::default();
        let first = in_flight.begin(vec![volume("a"), volume("b")]).unwrap();
        let refused = in_flight.begin(vec![volume("c"), volume("b")]).unwrap_err();
        assert_eq!(refused.to_string(), "another call on volume b is under way");
        in_flight.begin(vec![volume("c")]).expect("a refused call holds nothing");
        drop(first);
        in_flight.begin(vec![volume("b"), volume("a")]).unwrap();
    }

    #[test]
    fn a_name_and_a_snapshot_of_that_name_are_two_things() {
        let in_flight = InFlight::default();
        let name: VolumeName = "x\ny".parse().unwrap();
        let _volume = in_flight.begin(vec![Thing::Name(name.clone())]).unwrap();
        let _snapshot = in_flight.begin(vec![Thing::SnapshotName(name.clone())]).unwrap();
        let refused = in_flight.begin(vec![Thing::Name(name)]).unwrap_err();
        assert_eq!(refused.to_string(), "another call on a volume called \"x\\x0ay\" is under way");
    }
}
