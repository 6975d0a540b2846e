//! Flushes that those share who wait for one at the same time.
//!
//! A flush of one file costs a write to the disk, and of those of one file system one waits for the other;
//! a flush of the file system costs one, whoever waits for it. Measured on two processors with 4 KiB into a file,
//! flush, rename, flush: each for itself 136 a second with 4 threads and 648 with 50, shared 588 and 1,528, and as
//! many with one. But it writes what anybody has left in memory: while that takes long, each flushes for itself.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How long a shared flush may take, and be waited for.
const LONG: Duration = Duration::from_millis(100);
/// For how long at least each flushes for itself after one that took longer, and ten times as long as it took.
const ALONE: Duration = Duration::from_secs(1);

/// The flushes of one file system.
#[derive(Default)]
pub(crate) struct Flushes {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// Who wants a flush now, or has one.
    callers: usize,
    /// The shared flush that begins next.
    next: Arc<Shared>,
    is_under_way: bool,
    /// Until when each flushes for itself, since boot.
    alone_until: Duration,
}

/// A shared flush, and what it came to.
#[derive(Default)]
struct Shared {
    result: OnceLock<Result<(), (io::ErrorKind, String)>>,
}

impl Flushes {
    /// Returns when `own` has ended; before it comes, where others wait too, an `all` that began after this call
    /// and is done once for everybody. Then `own` has nothing left to write, and tells what went wrong with
    /// this file, which whoever flushed all before may have been told instead. `since_boot` tells the time.
    ///
    /// # Errors
    ///
    /// What the flush said; each who waited for it is told.
    pub fn flush(
        &self,
        since_boot: impl Fn() -> Duration,
        own: impl FnOnce() -> io::Result<()>,
        all: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.state();
        state.callers += 1;
        let is_alone = state.callers == 1 || since_boot() < state.alone_until;
        if is_alone {
            drop(state);
            let result = own();
            self.state().callers -= 1;
            return result;
        }
        let mine = Arc::clone(&state.next);
        let (mut all, mut is_late) = (Some(all), false);
        let result = loop {
            if let Some(result) = mine.result.get() {
                break result.clone();
            }
            // one that takes long has begun since, or ended: nobody waits for what others have written
            if is_late || since_boot() < state.alone_until {
                break Ok(());
            }
            let leads = if state.is_under_way { None } else { all.take() };
            match leads {
                Some(flush) => {
                    state.is_under_way = true;
                    state.next = Arc::default();
                    drop(state);
                    let begun = since_boot();
                    let result = flush().map_err(|error| (error.kind(), error.to_string()));
                    let ended = since_boot();
                    state = self.state();
                    state.is_under_way = false;
                    let took = ended.saturating_sub(begun);
                    if took > LONG {
                        state.alone_until = ended + ALONE.max(took * 10);
                    }
                    let _ = mine.result.set(result);
                    self.ended.notify_all();
                }
                None => {
                    let waited = self.ended.wait_timeout(state, LONG);
                    let (again, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                    (state, is_late) = (again, waited.timed_out());
                }
            }
        };
        drop(state);
        let result = result.map_err(|(kind, what)| io::Error::new(kind, what)).and_then(|()| own());
        self.state().callers -= 1;
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use super::*;

    /// What lies on a disk after flushes: what was written before they began.
    #[derive(Default)]
    struct Disk {
        written: AtomicU64,
        flushed: AtomicU64,
        shared: AtomicUsize,
        is_broken: std::sync::atomic::AtomicBool,
    }

    impl Disk {
        fn flush(&self) -> io::Result<()> {
            let written = self.written.load(Ordering::SeqCst);
            std::thread::yield_now();
            if self.is_broken.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.flushed.fetch_max(written, Ordering::SeqCst);
            Ok(())
        }

        /// Has 16 threads write and flush; how many flushes failed.
        fn written_by_many(&self, flushes: &Flushes) -> usize {
            let failed = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| {
                        for _ in 0..200 {
                            let mine = self.written.fetch_add(1, Ordering::SeqCst) + 1;
                            let all = || {
                                self.shared.fetch_add(1, Ordering::SeqCst);
                                self.flush()
                            };
                            // behind a shared one it writes nothing that others had left
                            let own = || match self.flushed.load(Ordering::SeqCst) >= mine {
                                true => Ok(()),
                                false => self.flush(),
                            };
                            match flushes.flush(|| Duration::ZERO, own, all) {
                                Ok(()) => assert!(self.flushed.load(Ordering::SeqCst) >= mine),
                                Err(error) => {
                                    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                                    failed.fetch_add(1, Ordering::SeqCst);
                                }
                            }
                        }
                    });
                }
            });
            failed.into_inner()
        }
    }

    #[test]
    fn a_flush_that_many_share_began_after_each_of_them_had_written() {
        let (flushes, disk) = (Flushes::default(), Disk::default());
        assert_eq!(disk.written_by_many(&flushes), 0);
        let shared = disk.shared.load(Ordering::SeqCst);
        assert!((1..16 * 200).contains(&shared), "{shared} were shared");
        assert_eq!(flushes.state().callers, 0);
    }

    #[test]
    fn each_who_waited_for_a_flush_is_told_that_it_failed() {
        let (flushes, disk) = (Flushes::default(), Disk::default());
        disk.is_broken.store(true, Ordering::SeqCst);
        assert_eq!(disk.written_by_many(&flushes), 16 * 200);
        disk.is_broken.store(false, Ordering::SeqCst);
        assert_eq!(disk.written_by_many(&flushes), 0);
    }

    #[test]
    fn one_alone_and_all_after_a_long_one_flush_for_themselves() {
        let flushes = Flushes::default();
        let never = || -> io::Result<()> { panic!("nobody shares it") };
        flushes.flush(|| Duration::ZERO, || Ok(()), never).unwrap();
        flushes.state().callers = 1;
        let clock = AtomicU64::new(0);
        let long = || {
            clock.fetch_add(101, Ordering::SeqCst);
            Ok(())
        };
        let now = || Duration::from_millis(clock.load(Ordering::SeqCst));
        flushes.flush(now, || Ok(()), long).unwrap();
        flushes.flush(now, || Ok(()), never).unwrap();
        clock.fetch_add(1010, Ordering::SeqCst);
        let shared = AtomicUsize::new(0);
        let all = || {
            shared.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        let own = || Err(io::ErrorKind::StorageFull.into());
        assert!(flushes.flush(now, own, all).is_err(), "what its own file says");
        assert_eq!(shared.into_inner(), 1, "it is over");
    }
}
