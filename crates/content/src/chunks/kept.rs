//! A map with a bound in bytes, which forgets what was not asked for longest.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Values by key, at most so many bytes of them as their keepers say.
///
/// A value that is longer than the bound is not kept.
pub(crate) struct Kept<K, V> {
    values: HashMap<K, Value<V>>,
    /// The keys by when they were last asked for.
    order: BTreeMap<u64, K>,
    asked: u64,
    bytes: usize,
    bytes_max: usize,
}

struct Value<V> {
    value: V,
    bytes: usize,
    asked: u64,
}

impl<K: Copy + Eq + Hash, V: Clone> Kept<K, V> {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { values: HashMap::new(), order: BTreeMap::new(), asked: 0, bytes: 0, bytes_max }
    }

    pub(crate) fn find(&mut self, key: &K) -> Option<V> {
        let value = self.values.get_mut(key)?;
        self.asked += 1;
        self.order.remove(&value.asked);
        self.order.insert(self.asked, *key);
        value.asked = self.asked;
        Some(value.value.clone())
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.values.contains_key(key)
    }

    pub(crate) fn keep(&mut self, key: K, value: V, bytes: usize) {
        if bytes > self.bytes_max {
            return;
        }
        self.asked += 1;
        let asked = self.asked;
        if let Some(old) = self.values.insert(key, Value { value, bytes, asked }) {
            self.bytes -= old.bytes;
            self.order.remove(&old.asked);
        }
        self.order.insert(asked, key);
        self.bytes += bytes;
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            if let Some(old) = self.values.remove(&oldest) {
                self.bytes -= old.bytes;
            }
        }
    }

    /// Keeps the value of a key no longer.
    pub(crate) fn forget(&mut self, key: &K) {
        if let Some(old) = self.values.remove(key) {
            self.bytes -= old.bytes;
            self.order.remove(&old.asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_longest_goes_first() {
        let mut kept = Kept::new(10);
        (0..5).for_each(|n| kept.keep(n, n, 2));
        assert_eq!(kept.find(&0), Some(0));
        kept.keep(5, 5, 2);
        assert_eq!((kept.find(&1), kept.find(&0), kept.find(&5)), (None, Some(0), Some(5)));
        kept.forget(&5);
        assert_eq!((kept.find(&5), kept.bytes), (None, 8));
        kept.keep(6, 6, 10);
        assert_eq!((kept.find(&0), kept.find(&6), kept.bytes), (None, Some(6), 10));
    }

    #[test]
    fn what_is_longer_than_the_bound_and_what_is_kept_again_does_not_count_twice() {
        let mut kept = Kept::new(10);
        kept.keep(1, 'a', 4);
        kept.keep(2, 'b', 11);
        kept.keep(1, 'c', 6);
        assert_eq!((kept.find(&1), kept.find(&2), kept.bytes), (Some('c'), None, 6));
        assert_eq!(kept.order.len(), kept.values.len());
    }
}
