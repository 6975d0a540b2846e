//! The pool: which one, how it grows, and how it is let go of.

use std::sync::Arc;
use std::time::Duration;

use cove_btrfs::{BtrfsPool, GROW_BELOW_BYTES, IMAGE_BYTES_MIN, LoopPool, Pool, PoolError, Space};
use cove_types::{Classify, ErrorKind};

use super::{STOP_WAIT, moment, pause};
use crate::args::UpArgs;
use crate::failure::Failure;
use crate::output;
use crate::render::size;

/// The smallest pool that is made when nobody says how large.
const POOL_BYTES_MIN: u64 = 4 << 30;
/// The pool grows by this, or by a quarter of itself where that is more.
const GROW_BYTES: u64 = 1 << 30;
/// How often the room in the pool is looked at while nobody fills it, and while somebody does.
const GROW_EVERY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(100));
/// Somebody fills the pool when this much went since the last look.
const FILLING_BYTES: u64 = 32 << 20;
/// The pool that was opened, and how it is let go of.
pub(super) enum Opened {
    Loop(Arc<LoopPool>),
    Given(Arc<BtrfsPool>),
}

impl Opened {
    pub(super) fn pool(&self) -> Arc<dyn Pool> {
        match self {
            Self::Loop(pool) => Arc::clone(pool) as Arc<dyn Pool>,
            Self::Given(pool) => Arc::clone(pool) as Arc<dyn Pool>,
        }
    }

    pub(super) fn close(self) {
        let Self::Loop(pool) = self else { return };
        // tasks that were cut off let go of the pool a moment later
        let until = moment() + STOP_WAIT;
        let mut pool = pool;
        loop {
            match Arc::try_unwrap(pool) {
                Ok(own) => {
                    if let Err(error) = own.close() {
                        tracing::warn!(error = %error, "the pool stays mounted; the next start uses it");
                    }
                    return;
                }
                Err(shared) if moment() < until => {
                    pool = shared;
                    pause(Duration::from_millis(20));
                }
                Err(_) => {
                    tracing::warn!("the pool is in use and stays mounted; the next start uses it");
                    return;
                }
            }
        }
    }
}

fn pool_failure(error: &PoolError) -> Failure {
    if let PoolError::HostFull { asked_bytes, free_bytes, kept_bytes } = *error {
        let (text, hint) = no_room(asked_bytes, free_bytes, kept_bytes);
        return Failure::new(error.kind(), text).hint(hint);
    }
    let hint = match error.kind() {
        ErrorKind::Exhausted => "make room on this disk",
        _ => "Cove needs root, btrfs and loop devices here, or --pool DIR on a btrfs file system",
    };
    Failure::caused("failed to open the pool", error, error.kind()).hint(hint)
}

/// What is said of a new pool that does not fit on its disk, and what to do: a smaller one only where one fits.
fn no_room(asked: u64, free: u64, kept: u64) -> (String, String) {
    let text = format!(
        "failed to make a pool of {}: the disk has {} free, and {} of it stay free beside a pool",
        size(asked),
        size(free),
        size(kept)
    );
    let room = free.saturating_sub(kept);
    let hint = match room >= IMAGE_BYTES_MIN {
        true => format!("give --pool-bytes {}MiB or less, or make room on this disk", room >> 20),
        false => format!(
            "make room on this disk, at least {} for the smallest pool, or give a home on another with --home",
            size(IMAGE_BYTES_MIN - room)
        ),
    };
    (text, hint)
}

pub(super) fn open_pool(args: &UpArgs) -> Result<Opened, Failure> {
    let image = std::fs::metadata(args.home.join("pool.img"));
    let found = image.ok().filter(|_| args.pool.is_none()).map(|image| image.len());
    if let Some(line) = unused_size(args.pool_bytes, args.pool.is_some(), found) {
        output::warn(&line);
    }
    if let Some(dir) = &args.pool {
        let pool = BtrfsPool::open(dir).map_err(|error| pool_failure(&error))?;
        return Ok(Opened::Given(Arc::new(pool)));
    }
    let bytes = match args.pool_bytes {
        Some(bytes) => bytes,
        None => {
            let room = rustix::fs::statvfs(&args.home)
                .map_err(|error| Failure::io("failed to look for free space", &error.into()))?;
            (room.f_bavail.saturating_mul(room.f_frsize) / 4).max(POOL_BYTES_MIN)
        }
    };
    let pool = LoopPool::open(&args.home, bytes).map_err(|error| pool_failure(&error))?;
    Ok(Opened::Loop(Arc::new(pool)))
}

/// What is said of a size that was asked for and is not given: the pool is there already, `found` bytes
/// large, or is a directory.
fn unused_size(asked: Option<u64>, is_directory: bool, found: Option<u64>) -> Option<String> {
    let asked = asked?;
    if is_directory {
        return Some("the pool is the directory of --pool: --pool-bytes has no effect".to_owned());
    }
    let found = found.filter(|found| *found != asked)?;
    Some(format!(
        "the pool is there and stays {} large: --pool-bytes is the first size of a new one",
        size(found)
    ))
}

/// By how many bytes a pool grows that has so much room; 0 when that is enough.
fn plan_growth(space: &Space) -> u64 {
    let size = space.total;
    // what is free for data is of no use to names and small files
    let is_short = space.is_metadata_full || space.unpromised() < GROW_BELOW_BYTES.min(size / 4);
    if is_short { GROW_BYTES.max(size / 4) } else { 0 }
}

/// Gives the pool more room before it is full, as long as the host has some.
pub(super) async fn grow(pool: Arc<LoopPool>) {
    let mut free_before = 0;
    let mut pace = GROW_EVERY.0;
    loop {
        tokio::time::sleep(pace).await;
        let growing = Arc::clone(&pool);
        let looked = tokio::task::spawn_blocking(move || {
            let space = growing.space()?;
            let by = plan_growth(&space);
            let grown = match by {
                0 => None,
                // a host that has no room for the whole step may have some for a small one
                by => Some(growing.grow(by).or_else(|_| growing.grow(GROW_BYTES / 8))),
            };
            Ok::<_, PoolError>((space.unpromised(), grown))
        });
        let Ok(Ok((free, grown))) = looked.await else { continue };
        match grown {
            Some(Ok(bytes)) => tracing::info!(bytes, "the pool has grown"),
            Some(Err(error)) => tracing::debug!(%error, "the pool does not grow"),
            None => {}
        }
        let is_filling = free.saturating_add(FILLING_BYTES) < free_before;
        pace = if is_filling { GROW_EVERY.1 } else { GROW_EVERY.0 };
        free_before = free;
    }
}

#[cfg(test)]
mod tests {
    use super::{Space, no_room, plan_growth, unused_size};

    #[test]
    fn a_smaller_pool_is_advised_only_where_one_fits() {
        let (text, hint) = no_room(8 << 30, 9_895_976_960, 4 << 30);
        assert_eq!(
            text,
            "failed to make a pool of 8.6 GB: the disk has 9.9 GB free, and 4.3 GB of it stay free beside a pool"
        );
        assert_eq!(hint, "give --pool-bytes 5341MiB or less, or make room on this disk");
        for free in [0, 13_527_658_700, 13_527_658_700 + (255 << 20)] {
            let (_, hint) = no_room(4 << 30, free, 13_527_658_700);
            assert!(!hint.contains("--pool-bytes"), "{hint}");
        }
        let (_, hint) = no_room(4 << 30, 13_527_658_700 + (256 << 20), 13_527_658_700);
        assert!(hint.starts_with("give --pool-bytes 256MiB or less"), "{hint}");
    }

    #[test]
    fn a_size_that_has_no_effect_is_named() {
        assert_eq!(unused_size(None, false, Some(7)), None);
        assert_eq!(unused_size(Some(7), false, None), None, "the pool is made of that size");
        assert_eq!(unused_size(Some(7), false, Some(7)), None);
        assert_eq!(
            unused_size(Some(1 << 30), false, Some(512 << 20)).unwrap(),
            "the pool is there and stays 537 MB large: --pool-bytes is the first size of a new one"
        );
        assert!(unused_size(Some(7), true, None).unwrap().contains("the directory of --pool"));
    }

    #[test]
    fn a_pool_grows_before_it_is_full_and_a_small_one_not_at_once() {
        const GIB: u64 = 1 << 30;
        let growth_of = |total, free, promised, is_metadata_full| {
            plan_growth(&Space { total, free, promised, is_read_only: false, is_metadata_full })
        };
        let growth = |total, free, is_metadata_full| growth_of(total, free, 0, is_metadata_full);
        assert_eq!(growth(GIB, GIB * 9 / 10, false), 0);
        assert_eq!(growth(GIB, GIB / 5, false), GIB);
        assert_eq!(growth(100 * GIB, 3 * GIB, false), 0);
        assert_eq!(growth(100 * GIB, GIB, false), 25 * GIB);
        assert_eq!(growth(100 * GIB, 90 * GIB, true), 25 * GIB, "names have no room");
        assert_eq!(
            growth_of(12 * GIB, 6 * GIB, 5 * GIB, false),
            3 * GIB,
            "it is as good as written"
        );
        assert_eq!(growth_of(GIB, GIB / 2, GIB, false), GIB);
    }
}
