//! How many requests were made.

use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers of requests by kind. Subtract an earlier reading for those between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Reads of objects, whole or in part, repetitions included.
    pub gets: u64,
    /// Conditional writes.
    pub puts: u64,
    /// Pages of lists.
    pub lists: u64,
    /// Deletes.
    pub deletes: u64,
}

impl Requests {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.gets + self.puts + self.lists + self.deletes
    }
}

impl Sub for Requests {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            gets: self.gets - earlier.gets,
            puts: self.puts - earlier.puts,
            lists: self.lists - earlier.lists,
            deletes: self.deletes - earlier.deletes,
        }
    }
}

/// The counters behind [`Requests`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    gets: AtomicU64,
    puts: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
}

impl Counters {
    pub fn get(&self) {
        self.gets.fetch_add(1, Ordering::Relaxed);
    }

    pub fn put(&self) {
        self.puts.fetch_add(1, Ordering::Relaxed);
    }

    pub fn list(&self) {
        self.lists.fetch_add(1, Ordering::Relaxed);
    }

    pub fn delete(&self) {
        self.deletes.fetch_add(1, Ordering::Relaxed);
    }

    pub fn read(&self) -> Requests {
        Requests {
            gets: self.gets.load(Ordering::Relaxed),
            puts: self.puts.load(Ordering::Relaxed),
            lists: self.lists.load(Ordering::Relaxed),
            deletes: self.deletes.load(Ordering::Relaxed),
        }
    }
}
