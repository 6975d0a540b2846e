//! What is wrong with the pool as such.

use std::sync::PoisonError;

use cove_btrfs::{GROW_BELOW_BYTES, PoolError, Space};
use cove_types::chain;
use jiff::Timestamp;

use crate::node::Inner;

/// A pool is short of room when less than one part in so many is free, and less than it waits for to
/// grow: it cannot grow then, or not as fast as it is filled.
const SHORT_PART: u64 = 20;

/// What is wrong with a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PoolFault {
    /// It could not be looked at.
    Unseen(String),
    /// Nothing can be written to it.
    ReadOnly,
    /// There is little room, or none.
    Short(Space),
    /// There is room for data, and none for metadata.
    NoMetadata,
}

impl PoolFault {
    pub fn what(&self) -> String {
        match self {
            Self::Unseen(why) => why.clone(),
            Self::ReadOnly => {
                "the pool is read-only, as after a failure of its disk: nothing can be written"
                    .to_owned()
            }
            Self::Short(space) => format!("the pool is full: {}", room(space)),
            Self::NoMetadata => {
                "the pool is full: there is no room for names, attributes and small files"
                    .to_owned()
            }
        }
    }

    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unseen(_) => "look at the disk and at the kernel's log",
            Self::ReadOnly => {
                "see to the disk that Cove's home is on, end the pods that use volumes while Cove still runs, then \
                 `cove down` and `cove up`: what is saved or was captured is there again"
            }
            Self::Short(_) | Self::NoMetadata => {
                "`cove files rm` what is not needed, or `cove rm` a project, or make room on the \
                 disk that Cove's home is on"
            }
        }
    }
}

/// The room of a pool, in words.
pub(crate) fn room(space: &Space) -> String {
    format!("{} of {} MiB are free", space.free >> 20, space.total >> 20)
}

/// What is wrong with a pool of which this is known.
pub(crate) fn fault_of(space: &Result<Space, PoolError>) -> Option<PoolFault> {
    match space {
        Err(error) => Some(PoolFault::Unseen(chain(error))),
        Ok(space) if space.is_read_only => Some(PoolFault::ReadOnly),
        Ok(space) if space.free < (space.total / SHORT_PART).min(GROW_BELOW_BYTES) => {
            Some(PoolFault::Short(*space))
        }
        Ok(space) if space.is_metadata_full => Some(PoolFault::NoMetadata),
        Ok(_) => None,
    }
}

/// What is wrong with the pool now, and since when that was seen. Costs one call of the kernel's.
pub(crate) fn look(inner: &Inner) -> Option<(PoolFault, Timestamp)> {
    let fault = fault_of(&inner.pool.space());
    let mut since = inner.pool_fault_since.lock().unwrap_or_else(PoisonError::into_inner);
    *since = fault.as_ref().map(|_| since.unwrap_or_else(|| inner.env.now()));
    fault.zip(*since)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(total: u64, free: u64, is_read_only: bool) -> Option<String> {
        let (total, free) = (total << 20, free << 20);
        let space = Space { total, free, promised: 0, is_read_only, is_metadata_full: false };
        fault_of(&Ok(space)).map(|fault| fault.what())
    }

    #[test]
    fn a_pool_with_a_twentieth_free_is_well() {
        assert_eq!(told(1000, 50, false), None);
        let full = "the pool is full: 49 of 1000 MiB are free";
        assert_eq!(told(1000, 49, false).as_deref(), Some(full));
    }

    #[test]
    fn a_large_pool_is_well_as_long_as_it_need_not_grow() {
        assert_eq!(told(100 << 10, 2048, false), None);
        assert!(told(100 << 10, 2047, false).is_some());
    }

    #[test]
    fn a_pool_without_room_for_metadata_is_full_whatever_is_free_for_data() {
        let space = Space {
            total: 1000,
            free: 900,
            promised: 0,
            is_read_only: false,
            is_metadata_full: true,
        };
        assert_eq!(fault_of(&Ok(space)), Some(PoolFault::NoMetadata));
    }

    #[test]
    fn that_nothing_can_be_written_is_told_before_what_is_free() {
        for free in [0, 900] {
            let what = told(1000, free, true).expect("it is no pool to write to");
            assert!(what.contains("read-only"), "{what}");
        }
    }
}
