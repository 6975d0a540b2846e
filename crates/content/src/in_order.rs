//! Work on several threads whose results are taken in the order in which it was said.
//!
//! One thread says what is to be done ([`Feed`]), several do it, and whoever asks for
//! [`InOrder::next`] gets the results as if one thread had done all of it.
//!
//! **Invariant:** what was done and not yet taken weighs no more than it was begun with, and one
//! result a thread, however much is said and however much more a result weighs than was said of it.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

/// What may still be done ahead, in bytes.
struct Budget {
    /// Below 0 while results wait that weigh more than was said; `None` once nobody takes any more.
    free: Mutex<Option<i64>>,
    more: Condvar,
    bytes_max: i64,
}

impl Budget {
    fn new(bytes_max: u64) -> Self {
        let bytes_max = bytes_of(bytes_max);
        Self { free: Mutex::new(Some(bytes_max)), more: Condvar::new(), bytes_max }
    }

    fn change(&self, change: impl FnOnce(&mut Option<i64>)) {
        change(&mut self.free.lock().unwrap_or_else(PoisonError::into_inner));
        self.more.notify_all();
    }

    /// Waits until `bytes` are free, or all are; whether anybody still takes results.
    fn take(&self, bytes: u64) -> bool {
        let wanted = bytes_of(bytes).min(self.bytes_max);
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

    /// What a result weighs more than was said of it. Waits for nothing: it is there already.
    fn overdraw(&self, bytes: u64) {
        self.change(|free| *free = free.map(|free| free.saturating_sub(bytes_of(bytes))));
    }

    fn give(&self, bytes: u64, overdrawn: u64) {
        let bytes = bytes_of(bytes).min(self.bytes_max).saturating_add(bytes_of(overdrawn));
        self.change(|free| *free = free.map(|free| free.saturating_add(bytes)));
    }
}

fn bytes_of(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Nobody takes results any more.
pub(crate) struct Ended;

/// A piece of work, and where its result goes.
type Errand<T, R> = (T, SyncSender<Weighed<R>>);

/// A result, and what it weighs more than was said.
type Weighed<R> = (R, u64);

/// Says what is to be done.
pub(crate) struct Feed<T, R> {
    budget: Arc<Budget>,
    order: Sender<(u64, Receiver<Weighed<R>>)>,
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

/// The results, in order. When it goes, each thread ends with what it is doing: what else was said is
/// done by none.
pub(crate) struct InOrder<R> {
    results: Receiver<(u64, Receiver<Weighed<R>>)>,
    budget: Arc<Budget>,
}

impl<R: Send> InOrder<R> {
    /// Begins to do what `say` says, by `work` on `threads` threads of `scope`; results of up to
    /// `bytes_max` bytes wait to be taken. `more` tells what a result weighs beside what was said.
    pub(crate) fn begin<'scope, T: Send + 'scope>(
        scope: &'scope Scope<'scope, '_>,
        threads: usize,
        bytes_max: u64,
        say: impl FnOnce(Feed<T, R>) + Send + 'scope,
        work: impl Fn(T) -> R + Send + Sync + 'scope,
        more: impl Fn(&R) -> u64 + Send + Sync + 'scope,
    ) -> Self
    where
        R: 'scope,
    {
        let budget = Arc::new(Budget::new(bytes_max));
        let (order, results) = channel();
        let (to_workers, errands) = channel::<Errand<T, R>>();
        let (errands, work) = (Arc::new(Mutex::new(errands)), Arc::new((work, more)));
        for _ in 0..threads {
            let (errands, work) = (Arc::clone(&errands), Arc::clone(&work));
            let budget = Arc::clone(&budget);
            let _: ScopedJoinHandle<'_, ()> = scope.spawn(move || {
                let (work, more) = &*work;
                loop {
                    let next = {
                        let errands = errands.lock().unwrap_or_else(PoisonError::into_inner);
                        // before one is picked up: then all before it are done without any waiting, and
                        // their results can be taken, however much the later ones weigh
                        if !budget.take(0) {
                            return;
                        }
                        errands.recv()
                    };
                    let Ok((task, answer)) = next else { return };
                    let result = work(task);
                    let more = more(&result);
                    budget.overdraw(more);
                    // nobody takes it when the taker has failed
                    let _ = answer.send((result, more));
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
        let (result, more) = result.recv().expect("a worker answers, or its panic ends all of it");
        self.budget.give(bytes, more);
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

    /// How many results, at most, were done and not taken when each of 1,000 was taken, each of which
    /// weighs 3 of 30 and `more`.
    fn most_ahead(more: u64) -> u64 {
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
            let mut results = InOrder::begin(scope, 4, 30, say, work, move |_| more);
            for number in 0..1000 {
                assert_eq!(results.next(), Some(number * number));
                // what was given back and what may wait
                let most = done.load(Ordering::SeqCst).saturating_sub(number + 1);
                ahead.fetch_max(most, Ordering::SeqCst);
            }
            assert_eq!(results.next(), None);
        });
        ahead.into_inner()
    }

    #[test]
    fn results_come_in_the_order_in_which_they_were_said_and_no_more_wait_than_may() {
        let ahead = most_ahead(0);
        assert!(ahead <= 11, "{ahead} were done, more than there is room for");
    }

    #[test]
    fn of_results_that_weigh_more_than_was_said_each_thread_has_one() {
        let ahead = most_ahead(1000);
        assert!(ahead <= 5, "{ahead} were done, more than one a thread");
    }

    #[test]
    fn when_nobody_takes_any_more_the_threads_end_and_do_not_do_what_else_was_said() {
        let (done, gate) = (AtomicU64::new(0), Mutex::new(()));
        std::thread::scope(|scope| {
            let shut = gate.lock().unwrap();
            let say = |mut feed: Feed<u64, u64>| {
                let mut number = 0..;
                while feed.send(number.next().unwrap(), 1).is_ok() {}
            };
            let work = |number| {
                done.fetch_add(1, Ordering::SeqCst);
                if number > 0 {
                    drop(gate.lock());
                }
                number
            };
            let mut results = InOrder::begin(scope, 2, 10, say, work, |_| 0);
            assert_eq!(results.next(), Some(0));
            drop(results);
            drop(shut);
        });
        let done = done.into_inner();
        assert!(done <= 3, "{done} were done, of which 2 were under way when nobody took any more");
    }
}
