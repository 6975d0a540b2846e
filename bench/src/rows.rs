//! The rows: each measures one kind of work, and whatever others do for the same.

mod change;
mod create;
mod first_store;
mod floors;
mod fork;
mod idle;
mod many_volumes;
mod restore;
mod sizes;
mod snapshot;
mod tier0;
mod versions;
mod volumes;

use anyhow::Result;
use clap::ValueEnum;

use crate::world::{World, say};

/// What can be measured, in the order in which it is: each row leaves behind what later ones need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Row {
    /// The first store, to a directory and to S3, cold and warm.
    FirstStore,
    /// Saving a small change.
    Change,
    /// Looking for changes when there are none.
    NoChange,
    /// Snapshots with 4 KiB changed.
    Snapshot,
    /// A whole restore on an empty machine, and the first read before it.
    Restore,
    /// Forks.
    Fork,
    /// New projects.
    Create,
    /// Calls on volumes over the sockets of the Volume Hub and the CSI driver.
    Volumes,
    /// Lists, starts and memory with 1,000 volumes.
    ManyVolumes,
    /// Reads and writes at 50 connections.
    Tier0,
    /// Cost against the size of the change and of the volume.
    Curves,
    /// Bytes in the store after 20 versions.
    Versions,
    /// What the machine itself takes.
    Floors,
}

impl Row {
    /// Measures it.
    pub fn measure(self, world: &mut World) -> Result<()> {
        say(&format!("{self:?}"));
        match self {
            Self::FirstStore => first_store::measure(world),
            Self::Change => change::measure(world),
            Self::NoChange => idle::measure(world),
            Self::Snapshot => snapshot::measure(world),
            Self::Restore => restore::measure(world),
            Self::Fork => fork::measure(world),
            Self::Create => create::measure(world),
            Self::Volumes => volumes::measure(world),
            Self::ManyVolumes => many_volumes::measure(world),
            Self::Tier0 => tier0::measure(world),
            Self::Curves => change::curve(world).and_then(|()| sizes::measure(world)),
            Self::Versions => versions::measure(world),
            Self::Floors => floors::measure(world),
        }
    }
}

/// The order of `count` contenders in a repetition: each is first, and last, equally often.
fn order(count: usize, repetition: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.rotate_left(repetition / 2 % count.max(1));
    if repetition % 2 == 1 {
        order.reverse();
    }
    order
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn each_contender_is_first_and_last_equally_often() {
        for count in 1..=4 {
            let orders: Vec<_> =
                (0..2 * count).map(|repetition| order(count, repetition)).collect();
            for contender in 0..count {
                let first = orders.iter().filter(|order| order[0] == contender).count();
                let last = orders.iter().filter(|order| order[count - 1] == contender).count();
                assert_eq!((first, last), (2, 2), "{count} {orders:?}");
            }
        }
    }
}
