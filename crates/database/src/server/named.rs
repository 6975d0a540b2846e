//! Projects that were asked for by name, kept in memory until one changes.
//!
//! **Invariant:** what is given was in the table after the last change that has returned. A row that
//! was read while something changed is not kept, for it may be the one from before.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cove_types::Slug;

use super::ProjectRow;

/// So many are kept; all go when there are more.
const KEPT_MAX: usize = 1024;

/// How often projects began or ended to change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Changes(u64);

#[derive(Debug, Default)]
pub(super) struct Named(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    changes: Changes,
    /// How many changes are under way.
    changing: usize,
    rows: HashMap<Slug, ProjectRow>,
}

/// Projects may change as long as this lives.
pub(super) struct Changing<'n>(&'n Named);

impl Named {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that projects are about to change.
    pub(super) fn changing(&self) -> Changing<'_> {
        let mut state = self.state();
        state.changing += 1;
        state.forget();
        Changing(self)
    }

    /// What is kept of a name, or else how many changes there were before the caller looks.
    pub(super) fn find(&self, slug: &Slug) -> Result<ProjectRow, Changes> {
        let state = self.state();
        state.rows.get(slug).cloned().ok_or(state.changes)
    }

    /// Keeps a row that was looked up after so many changes.
    pub(super) fn keep(&self, row: &ProjectRow, changes: Changes) {
        let mut state = self.state();
        if state.changing > 0 || state.changes != changes {
            return;
        }
        if state.rows.len() >= KEPT_MAX {
            state.rows.clear();
        }
        state.rows.insert(row.slug.clone(), row.clone());
    }
}

impl State {
    fn forget(&mut self) {
        self.changes.0 += 1;
        self.rows.clear();
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.changing -= 1;
        state.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::super::ProjectState;
    use super::*;

    fn row(slug: &str) -> ProjectRow {
        let volume = "vol-aaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap();
        ProjectRow {
            id: "prj-aaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap(),
            slug: slug.parse().unwrap(),
            name: slug.into(),
            volume,
            state: ProjectState::Live,
            created_us: 0,
            trashed_us: None,
            document: String::new(),
            verified: None,
        }
    }

    #[test]
    fn a_row_is_kept_until_something_changes_and_never_across_a_change() {
        let named = Named::default();
        let shop = row("shop");
        let before = named.find(&shop.slug).unwrap_err();
        named.keep(&shop, before);
        assert_eq!(named.find(&shop.slug).unwrap(), shop);
        let changing = named.changing();
        let during = named.find(&shop.slug).unwrap_err();
        named.keep(&shop, during);
        assert!(named.find(&shop.slug).is_err(), "it may be the one from before");
        drop(changing);
        named.keep(&shop, during);
        named.keep(&shop, before);
        assert!(named.find(&shop.slug).is_err(), "it was read before the change ended");
        let after = named.find(&shop.slug).unwrap_err();
        named.keep(&shop, after);
        assert_eq!(named.find(&shop.slug).unwrap(), shop);
    }
}
