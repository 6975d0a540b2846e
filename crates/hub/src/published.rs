//! Where a volume is published, as the Container Storage Interface calls it.
//!
//! Which node, and whether for reading only, is a label of the volume, so that it outlives the driver and is found
//! wherever the volume is: `published-rw.cove.csi.storage` or `published-ro.cove.csi.storage`, with the node's id.
//! Whoever takes the labels away takes the record away.

use std::collections::BTreeMap;

/// The label of a volume that is published for writing; its value is the node.
const PUBLISHED_RW: &str = "published-rw.cove.csi.storage";

/// The label of a volume that is published for reading only; its value is the node.
const PUBLISHED_RO: &str = "published-ro.cove.csi.storage";

/// Where a volume is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published<'a> {
    /// The node's id.
    pub node: &'a str,
    /// Whether nothing is written there.
    pub read_only: bool,
}

impl<'a> Published<'a> {
    /// What the labels of a volume tell; none when it is published nowhere.
    #[must_use]
    pub fn of(labels: &'a BTreeMap<String, String>) -> Option<Self> {
        let label = |read_only| {
            let published = |node: &'a String| Self { node: node.as_str(), read_only };
            labels.get(label_of(read_only)).map(published)
        };
        label(false).or_else(|| label(true))
    }

    /// The labels of a volume that is published so, or nowhere.
    #[must_use]
    pub fn set(
        labels: &BTreeMap<String, String>,
        published: Option<Published<'_>>,
    ) -> BTreeMap<String, String> {
        let mut labels = labels.clone();
        labels.remove(PUBLISHED_RW);
        labels.remove(PUBLISHED_RO);
        if let Some(published) = published {
            labels.insert(published.label().to_owned(), published.node.to_owned());
        }
        labels
    }

    /// The key of the label that tells it.
    #[must_use]
    pub fn label(&self) -> &'static str {
        label_of(self.read_only)
    }
}

fn label_of(read_only: bool) -> &'static str {
    if read_only { PUBLISHED_RO } else { PUBLISHED_RW }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_volume_is_published_stands_in_its_labels() {
        let published = |node, read_only| Published { node, read_only };
        let mine = BTreeMap::from([("mine".to_owned(), "kept".to_owned())]);
        assert_eq!(Published::of(&mine), None);
        for wanted in [published("a", false), published("a", true)] {
            let labels = Published::set(&mine, Some(wanted));
            assert_eq!(Published::of(&labels), Some(wanted));
            let other = Published::set(&labels, Some(published("b", true)));
            assert_eq!(Published::of(&other), Some(published("b", true)));
            assert_eq!(Published::set(&labels, None), mine);
        }
    }
}
