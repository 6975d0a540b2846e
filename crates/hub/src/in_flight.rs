//! Which calls are under way.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The things that calls are under way on. Cloning shares them.
#[derive(Debug)]
pub struct InFlight<T>(Arc<Mutex<BTreeSet<T>>>);

impl<T> Clone for InFlight<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// A call under way; its things are free again when it is dropped.
#[derive(Debug)]
pub struct Guard<T: Ord> {
    in_flight: InFlight<T>,
    things: Vec<T>,
}

/// Another call is under way on the thing that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy(pub String);

impl<T: Ord + Clone + Display> InFlight<T> {
    /// Begins a call on some things, all of them or none. Does not wait, and costs some comparisons a thing.
    ///
    /// # Errors
    ///
    /// [`Busy`], with the first thing that another call is under way on. Nothing is begun then.
    pub fn begin(&self, things: impl Into<Vec<T>>) -> Result<Guard<T>, Busy> {
        let things = things.into();
        let mut busy = self.busy();
        match things.iter().find(|thing| busy.contains(thing)) {
            Some(thing) => Err(Busy(thing.to_string())),
            None => {
                busy.extend(things.iter().cloned());
                Ok(Guard { in_flight: self.clone(), things })
            }
        }
    }
}

impl<T> InFlight<T> {
    fn busy(&self) -> MutexGuard<'_, BTreeSet<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Ord> Drop for Guard<T> {
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

    #[test]
    fn a_second_call_on_one_thing_is_refused_until_the_first_ends() {
        let in_flight = InFlight::default();
        let first = in_flight.begin(["a", "b"]).unwrap();
        assert_eq!(in_flight.begin(["c", "b"]).unwrap_err(), Busy("b".to_owned()));
        in_flight.begin(["c"]).expect("a refused call holds nothing");
        drop(first);
        in_flight.begin(["b", "a"]).unwrap();
    }
}
