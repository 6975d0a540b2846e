//! What is being made on this node.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cove_types::{OperationId, VolumeId, VolumeName};
use tokio::sync::Notify;

/// What one call at a time makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Thing {
    /// What lies under an operation's id until it has its place.
    Operation(OperationId),
    /// A volume that nobody knows yet.
    Volume(VolumeId),
    /// The name that a volume is to have.
    Name(VolumeName),
}

/// What calls are making now, of which nothing else tells before it is written down: no volume has it in its queue,
/// and no turn of a volume keeps another call away.
#[derive(Debug, Default)]
pub(crate) struct InMaking {
    things: Mutex<BTreeSet<Thing>>,
    freed: Notify,
}

/// What one call is making, until it is dropped.
#[derive(Debug)]
pub(crate) struct Making {
    of: Arc<InMaking>,
    things: Vec<Thing>,
}

impl InMaking {
    /// Waits until no other call is making one of some things, and begins to make all of them. Who waits holds none of
    /// them, and no thread.
    ///
    /// A call that made one may have ended as this one would: its end is looked for after this.
    pub async fn begin(self: &Arc<Self>, things: impl IntoIterator<Item = Thing>) -> Making {
        let things: Vec<Thing> = things.into_iter().collect();
        loop {
            // before the look, so that nothing is freed in between
            let freed = self.freed.notified();
            if self.try_begin(&things).is_ok() {
                return Making { of: Arc::clone(self), things };
            }
            freed.await;
        }
    }

    /// The same without waiting.
    ///
    /// # Errors
    ///
    /// The first of them that another call is making. Nothing is begun then.
    pub fn begin_now(self: &Arc<Self>, things: Vec<Thing>) -> Result<Making, Thing> {
        self.try_begin(&things)?;
        Ok(Making { of: Arc::clone(self), things })
    }

    fn try_begin(&self, things: &[Thing]) -> Result<(), Thing> {
        let mut all = self.things();
        match things.iter().find(|thing| all.contains(thing)) {
            Some(thing) => Err(thing.clone()),
            None => {
                all.extend(things.iter().cloned());
                Ok(())
            }
        }
    }

    fn things(&self) -> MutexGuard<'_, BTreeSet<Thing>> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let mut all = self.of.things();
        for thing in &self.things {
            all.remove(thing);
        }
        drop(all);
        self.of.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn thing(name: &str) -> Thing {
        Thing::Volume(name.parse().unwrap())
    }

    #[tokio::test]
    async fn a_second_call_waits_for_the_first_and_holds_nothing_meanwhile() {
        let all = Arc::new(InMaking::default());
        let first = all.begin([thing("a"), thing("b")]).await;
        let mut second = Box::pin(all.begin([thing("c"), thing("b")]));
        assert!((&mut second).now_or_never().is_none());
        let third = all.begin([thing("c")]).now_or_never().expect("who waits holds nothing");
        drop(first);
        assert!((&mut second).now_or_never().is_none(), "the third has what it wants, too");
        drop(third);
        let second = second.now_or_never().expect("all of it is free");
        assert_eq!(all.begin_now(vec![thing("d"), thing("b")]).unwrap_err(), thing("b"));
        drop(all.begin_now(vec![thing("d")]).expect("who is refused holds nothing"));
        drop(second);
        assert!(all.things().is_empty());
    }
}
