//! Work on several threads whose results are taken in the order in which it was said.
//!
//! One thread says what is to be done ([`Feed`]), several do it, and whoever asks for
//! [`InOrder::next`] gets the results as if one thread had done all of it.
//!
//! **Invariant:** what was done and not yet taken weighs no more than it was begun with, and the one
//! result that is being looked at, however much is said.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

/// What may still be done ahead, in bytes.
struct Budget {
    /// `None` once nobody takes any more.
    free: Mutex<Option<u64>>,
    more: Condvar,
    bytes_max: u64,
}

impl Budget {
    fn change(&self, change: impl FnOnce(&mut Option<u64>)) {
        change(&mut self.free.lock().unwrap_or_else(PoisonError::into_inner));
        self.more.notify_all();
    }

    /// Waits until `bytes` are free, or all are; whether anybody still takes results.
    fn take(&self, bytes: u64) -> bool {
        let wanted = bytes.min(self.bytes_max);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &mut *free {
                None => return false,
                Some(left) if *left >= wanted => {
                    *left -= wanted;
                    return true;
                }
                Some(_) => free = self.more.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn give(&self, bytes: u64) {
        self.change(|free| {
            *free = free.map(|free| free + bytes.min(self.bytes_max));
        });
    }
}

/// Nobody takes results any more.
pub(crate) struct Ended;

/// A piece of work, and where its result goes.
type Errand<T, R> = (T, SyncSender<R>);

/// Says what is to be done.
pub(crate) struct Feed<T, R> {
    budget: Arc<Budget>,
    order: Sender<(u64, Receiver<R>)>,
    to_workers: Sender<Errand<T, R>>,
}

impl<T, R> Feed<T, R> {
    /// Hands `task` over, whose result will weigh `bytes`; waits until there is room for it.
    pub(crate) fn send(&mut self, task: T, bytes: u64) -> Result<(), Ended> {
        if !self.budget.take(bytes) {
            return Err(Ended);
        }
        let (answer, result) = sync_channel(1);
        self.order.send((bytes, result)).map_err(|_| Ended)?;
        self.to_workers.send((task, answer)).map_err(|_| Ended)
    }
}

/// The results, in order. When it goes, the threads end.
pub(crate) struct InOrder<R> {
    results: Receiver<(u64, Receiver<R>)>,
    budget: Arc<Budget>,
}

impl<R: Send> InOrder<R> {
    /// Begins to do what `say` says, by `work` on `threads` threads of `scope`; results of up to
    /// `bytes_max` bytes wait to be taken.
    pub(crate) fn begin<'scope, T: Send + 'scope>(
        scope: &'scope Scope<'scope, '_>,
        threads: usize,
        bytes_max: u64,
        say: impl FnOnce(Feed<T, R>) + Send + 'scope,
        work: impl Fn(T) -> R + Send + Sync + 'scope,
    ) -> Self
    where
        R: 'scope,
    {
        let free = Mutex::new(Some(bytes_max));
        let budget = Arc::new(Budget { free, more: Condvar::new(), bytes_max });
        let (order, results) = channel();
        let (to_workers, errands) = channel::<Errand<T, R>>();
        let (errands, work) = (Arc::new(Mutex::new(errands)), Arc::new(work));
        for _ in 0..threads {
            let (errands, work) = (Arc::clone(&errands), Arc::clone(&work));
            let _: ScopedJoinHandle<'_, ()> = scope.spawn(move || {
                loop {
                    let next = errands.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((task, answer)) = next else { return };
                    // nobody takes it when the taker has failed
                    let _ = answer.send(work(task));
                }
            });
        }
        let feed = Feed { budget: Arc::clone(&budget), order, to_workers };
        let _: ScopedJoinHandle<'_, ()> = scope.spawn(move || say(feed));
        Self { results, budget }
    }

    /// The next result; `None` at the end. Waits for it.
    ///
    /// # Panics
    ///
    /// A thread that did the work has panicked.
    pub(crate) fn next(&mut self) -> Option<R> {
        let (bytes, result) = self.results.recv().ok()?;
        let result = result.recv().expect("a worker answers, or its panic ends all of it");
        self.budget.give(bytes);
        Some(result)
    }
}

impl<R> Drop for InOrder<R> {
    fn drop(&mut self) {
        self.budget.change(|free| *free = None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn results_come_in_the_order_in_which_they_were_said_and_no_more_wait_than_may() {
        let (done, ahead) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let say = |mut feed: Feed<u64, u64>| {
                for number in 0..1000 {
                    assert!(feed.send(number, 3).is_ok(), "it is taken");
                }
            };
            let work = |number| {
                done.fetch_add(1, Ordering::SeqCst);
                number * number
            };
            let mut results = InOrder::begin(scope, 4, 30, say, work);
            for number in 0..1000 {
                assert_eq!(results.next(), Some(number * number));
                // what was given back and what may wait
                let most = done.load(Ordering::SeqCst).saturating_sub(number + 1);
                ahead.fetch_max(most, Ordering::SeqCst);
            }
            assert_eq!(results.next(), None);
        });
        assert!(ahead.into_inner() <= 11, "more was done than there is room for");
    }

    #[test]
    fn when_nobody_takes_any_more_the_threads_end() {
        std::thread::scope(|scope| {
            let say = |mut feed: Feed<u64, u64>| while feed.send(1, 1).is_ok() {};
            let mut results = InOrder::begin(scope, 2, 10, say, |number| number);
            assert_eq!(results.next(), Some(1));
        });
    }
}
