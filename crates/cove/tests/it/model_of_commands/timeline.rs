//! The entries of a project as they must be: which one a person means, and which ones stay.

use std::sync::Arc;

use super::tree::{Refusal, Tree};

/// The shortest text that is tried as the beginning of an id.
const PREFIX_MIN: usize = 3;

/// An entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Empty until somebody has seen it.
    pub id: String,
    /// Whether somebody asked for it; else it is the state before a restore.
    pub is_manual: bool,
    pub message: Option<String>,
    pub label: Option<String>,
    pub is_pinned: bool,
    pub is_live: bool,
    pub tree: Arc<Tree>,
}

/// The entries of a project, the oldest first.
#[derive(Debug, Clone, Default)]
pub struct Timeline(pub Vec<Entry>);

/// Whether a text can be a moment at all.
fn is_lawful(at: &str) -> bool {
    let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match at.strip_prefix('~') {
        Some(number) => number.parse::<u32>().is_ok_and(|number| number >= 1),
        None => (1..=64).contains(&at.len()) && at.bytes().all(is_of_names),
    }
}

/// Whether a text can be a label.
pub fn is_lawful_label(label: &str) -> bool {
    is_lawful(label) && !label.starts_with('~') && label != "now"
}

impl Timeline {
    /// The one entry that a text means among the live ones or those in the trash.
    fn find(&self, at: &str, live: bool) -> Result<usize, Refusal> {
        let may = |index: &usize| self.0[*index].is_live == live;
        let all = || (0..self.0.len()).filter(may);
        if let Some(number) = at.strip_prefix('~') {
            let number: usize = number.parse().map_err(|_| Refusal::Invalid)?;
            let mut asked_for = all().rev().filter(|index| self.0[*index].is_manual);
            return asked_for.nth(number - 1).ok_or(Refusal::NotFound);
        }
        if let Some(index) = all().find(|index| self.0[*index].id == at) {
            return Ok(index);
        }
        let mut meant: Vec<usize> =
            all().filter(|index| self.0[*index].label.as_deref() == Some(at)).collect();
        if meant.is_empty() && at.len() >= PREFIX_MIN {
            meant = all().filter(|index| self.0[*index].id.starts_with(at)).collect();
        }
        match meant[..] {
            [] => Err(Refusal::NotFound),
            [one] => Ok(one),
            _ => Err(Refusal::Invalid),
        }
    }

    /// The live entry that a text means.
    pub fn get(&self, at: &str) -> Result<usize, Refusal> {
        match is_lawful(at) && at != "now" {
            true => self.find(at, true),
            false => Err(Refusal::Invalid),
        }
    }

    /// The entry in the trash that a text means.
    fn get_trashed(&self, at: &str) -> Result<usize, Refusal> {
        if !is_lawful(at) || at == "now" {
            return Err(Refusal::Invalid);
        }
        match self.find(at, false) {
            Err(Refusal::NotFound) => Err(match self.find(at, true) {
                Ok(_) => Refusal::Precondition,
                Err(refusal) => refusal,
            }),
            found => found,
        }
    }

    fn refuse_label(&self, label: &str, of: Option<usize>) -> Result<(), Refusal> {
        if !is_lawful_label(label) {
            return Err(Refusal::Invalid);
        }
        let mut others = self.0.iter().enumerate().filter(|(index, _)| Some(*index) != of);
        match others.any(|(_, other)| other.is_live && other.label.as_deref() == Some(label)) {
            true => Err(Refusal::AlreadyExists),
            false => Ok(()),
        }
    }

    /// The entries that retention counts, without `new`.
    fn counted(&self, new: Option<usize>) -> Vec<usize> {
        let is_counted = |index: &usize| {
            let entry = &self.0[*index];
            entry.is_live && entry.is_manual && !entry.is_pinned && Some(*index) != new
        };
        (0..self.0.len()).filter(is_counted).collect()
    }

    /// Moves what is over the number to the trash for `new`; the oldest go.
    fn roll_off(&mut self, new: usize, keep: usize) -> Vec<usize> {
        let counted = self.counted(Some(new));
        let number = counted.len() + usize::from(!self.0[new].is_pinned);
        let gone: Vec<usize> = counted.into_iter().take(number.saturating_sub(keep)).collect();
        for index in &gone {
            self.0[*index].is_live = false;
        }
        gone
    }

    /// `snapshot`; the new entry and what rolled off.
    pub fn snapshot(
        &mut self,
        tree: &Tree,
        message: Option<&str>,
        label: Option<&str>,
        keep: usize,
    ) -> Result<(usize, Vec<usize>), Refusal> {
        if let Some(label) = label {
            self.refuse_label(label, None)?;
        }
        self.0.push(Entry {
            id: String::new(),
            is_manual: true,
            message: message.map(ToOwned::to_owned),
            label: label.map(ToOwned::to_owned),
            is_pinned: false,
            is_live: true,
            tree: Arc::new(tree.clone()),
        });
        let new = self.0.len() - 1;
        Ok((new, self.roll_off(new, keep)))
    }

    /// The state before a restore, unless live entries are that state already: then those.
    pub fn before_restore(
        &mut self,
        tree: &Tree,
        in_any_case: bool,
    ) -> (Option<usize>, Vec<usize>) {
        let is_held = |entry: &Entry| entry.is_live && *entry.tree == *tree;
        let held_by: Vec<usize> =
            (0..self.0.len()).filter(|at| !in_any_case && is_held(&self.0[*at])).collect();
        if held_by.is_empty() {
            self.add_before(String::new(), Arc::new(tree.clone()));
            return (Some(self.0.len() - 1), held_by);
        }
        (None, held_by)
    }

    /// An entry of the state before a restore.
    pub fn add_before(&mut self, id: String, tree: Arc<Tree>) {
        self.0.push(Entry {
            id,
            is_manual: false,
            message: None,
            label: None,
            is_pinned: false,
            is_live: true,
            tree,
        });
    }

    /// `pin`, `unpin`; the entry and what rolled off.
    pub fn pin(
        &mut self,
        at: &str,
        pinned: bool,
        keep: usize,
    ) -> Result<(usize, Vec<usize>), Refusal> {
        let index = self.get(at)?;
        self.0[index].is_pinned = pinned;
        let newest = (0..self.0.len()).rfind(|at| self.0[*at].is_live && self.0[*at].is_manual);
        let gone = match newest {
            Some(newest) if !pinned => self.roll_off(newest, keep),
            _ => Vec::new(),
        };
        Ok((index, gone))
    }

    /// `label`.
    pub fn label(&mut self, at: &str, label: Option<&str>) -> Result<usize, Refusal> {
        if label.is_some_and(|label| !is_lawful_label(label)) {
            return Err(Refusal::Invalid);
        }
        let index = self.get(at)?;
        if let Some(label) = label {
            self.refuse_label(label, Some(index))?;
        }
        self.0[index].label = label.map(ToOwned::to_owned);
        Ok(index)
    }

    /// `rm NAME@x`.
    pub fn trash(&mut self, at: &str) -> Result<usize, Refusal> {
        let index = self.get(at)?;
        if self.0[index].is_pinned {
            return Err(Refusal::Precondition);
        }
        self.0[index].is_live = false;
        Ok(index)
    }

    /// `undelete NAME@x`: over the number it comes back pinned, and without a label that is another's.
    pub fn undelete(&mut self, at: &str, keep: usize) -> Result<usize, Refusal> {
        let index = self.get_trashed(at)?;
        if let Some(label) = self.0[index].label.clone()
            && self.refuse_label(&label, Some(index)).is_err()
        {
            self.0[index].label = None;
        }
        let is_over = self.0[index].is_manual && self.counted(None).len() >= keep;
        self.0[index].is_live = true;
        self.0[index].is_pinned |= is_over;
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(ids: &[&str]) -> Timeline {
        let mut timeline = Timeline::default();
        for id in ids {
            let (new, _) = timeline.snapshot(&Tree::empty(), None, None, 99).unwrap();
            timeline.0[new].id = (*id).to_owned();
        }
        timeline
    }

    #[test]
    fn an_entry_is_meant_by_its_id_its_label_a_prefix_or_its_number() {
        let mut timeline = timeline(&["aaab", "aaac", "bbbb"]);
        assert_eq!(timeline.get("aaac"), Ok(1));
        assert_eq!(timeline.get("aaa"), Err(Refusal::Invalid));
        assert_eq!(timeline.get("bb"), Err(Refusal::NotFound));
        assert_eq!(timeline.get("bbb"), Ok(2));
        assert_eq!(timeline.get("~1"), Ok(2));
        assert_eq!(timeline.get("~4"), Err(Refusal::NotFound));
        assert_eq!(timeline.get("~0"), Err(Refusal::Invalid));
        assert_eq!(timeline.get("now"), Err(Refusal::Invalid));
        timeline.label("aaab", Some("bbb")).unwrap();
        assert_eq!(timeline.get("bbb"), Ok(0));
        assert_eq!(timeline.label("bbbb", Some("bbb")), Err(Refusal::AlreadyExists));
        timeline.trash("aaac").unwrap();
        assert_eq!(timeline.get("aaa"), Ok(0));
        assert_eq!(timeline.undelete("aaab", 9), Err(Refusal::Precondition));
        assert_eq!(timeline.undelete("aaa", 9), Ok(1));
    }

    #[test]
    fn what_is_over_the_number_goes_and_comes_back_pinned() {
        let mut timeline = timeline(&["aaaa", "bbbb"]);
        timeline.pin("aaaa", true, 2).unwrap();
        let (_, gone) = timeline.snapshot(&Tree::empty(), None, None, 2).unwrap();
        assert!(gone.is_empty(), "the pinned one is not counted");
        assert_eq!(timeline.pin("aaaa", false, 2).unwrap(), (0, vec![0]));
        assert_eq!(timeline.undelete("aaaa", 2), Ok(0));
        assert!(timeline.0[0].is_pinned);
        assert_eq!(timeline.trash("aaaa"), Err(Refusal::Precondition));
    }
}
