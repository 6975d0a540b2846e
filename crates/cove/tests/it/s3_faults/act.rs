//! What is done while the store fails: each act with the state it begins from, the call, and what
//! must be so afterwards.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::reader::Files;

/// Something that a user or the background does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    Create,
    StoreFirst,
    StoreSmall,
    Gather,
    Snapshot,
    SnapshotUnchanged,
    ForkNow,
    ForkEntry,
    ForkCount,
    Restore,
    RestorePath,
    RollOff,
    Trash,
    Undelete,
    TrashEntry,
    UndeleteEntry,
    Pin,
    Rename,
    // on a machine that has lost everything
    Recover,
    ColdRead,
    ColdFork,
    ColdRestore,
    ColdRestorePath,
}

impl Act {
    pub(crate) const ALL: [Self; 23] = [
        Self::Gather,
        Self::Recover,
        Self::ColdRead,
        Self::ColdFork,
        Self::ColdRestore,
        Self::ColdRestorePath,
        Self::StoreFirst,
        Self::Create,
        Self::StoreSmall,
        Self::Snapshot,
        Self::SnapshotUnchanged,
        Self::ForkNow,
        Self::ForkEntry,
        Self::ForkCount,
        Self::Restore,
        Self::RestorePath,
        Self::RollOff,
        Self::Trash,
        Self::Undelete,
        Self::TrashEntry,
        Self::UndeleteEntry,
        Self::Pin,
        Self::Rename,
    ];

    /// Whether it begins on a machine that has nothing but the store.
    pub(crate) fn is_cold(self) -> bool {
        matches!(
            self,
            Self::Recover
                | Self::ColdRead
                | Self::ColdFork
                | Self::ColdRestore
                | Self::ColdRestorePath
        )
    }

    /// Whether it takes long to prepare or to do.
    pub(crate) fn is_long(self) -> bool {
        self.is_cold() || matches!(self, Self::StoreFirst | Self::Gather)
    }

    /// Whether it is the background's: nobody waits for an answer.
    pub(crate) fn is_look(self) -> bool {
        matches!(self, Self::StoreFirst | Self::StoreSmall | Self::Gather)
    }
}

/// The state of a project that an act begins from.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    pub(crate) slug: String,
    /// Its entries, the oldest first, with their files.
    pub(crate) entries: Vec<(String, Files)>,
    /// The files before the act.
    pub(crate) now: Files,
}

/// A call in both of its forms.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) body: Value,
    pub(crate) words: Vec<String>,
}

/// What must be so after an act.
#[derive(Debug, Clone, Default)]
pub(crate) struct After {
    /// Projects and their files.
    pub(crate) projects: Vec<(String, Files)>,
    /// The files of entries that the act made.
    pub(crate) made: Vec<Files>,
    /// Places in the list of earlier entries of those that lie in the trash.
    pub(crate) trashed: BTreeSet<usize>,
    /// Whether the project lies in the trash.
    pub(crate) is_trashed: bool,
    /// The first entry is pinned.
    pub(crate) is_pinned: bool,
}

/// Text of so many bytes that hardly compresses.
pub(crate) fn text(seed: u64, bytes: usize) -> Vec<u8> {
    let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let chance = cove_testkit::proof::Chance::new(seed).bytes(bytes);
    chance.into_iter().map(|byte| letters[usize::from(byte & 63)]).collect()
}

/// The files of a small project at its n-th state, which has all the names of those before.
pub(crate) fn files(seed: u64, state: u64) -> Files {
    let mut files = Files::new();
    files.insert("same".to_owned(), text(seed, 30_000));
    files.insert("changes".to_owned(), text(seed * 100 + state, 5_000));
    files.insert("dir/changes".to_owned(), text(seed * 100 + state + 50, 7_000));
    files.insert("dir/same".to_owned(), text(seed + 1, 300));
    for earlier in 2..=state {
        files.insert(format!("new-{earlier}"), text(seed * 100 + earlier + 70, 900));
    }
    files
}

/// Files that need several packs.
pub(crate) fn large(seed: u64) -> Files {
    let part = |n: u64| cove_testkit::proof::Chance::new(seed * 10 + n).bytes(11 << 20);
    let mut files: Files = (0..3).map(|n| (format!("large-{n}"), part(n))).collect();
    files.extend(self::files(seed, 1));
    files
}

impl Before {
    /// What an act asks for.
    pub(crate) fn call(&self, act: Act) -> Call {
        let slug = &self.slug;
        let entry = self.entries.first().map_or("", |(id, _)| id);
        let project = format!("/v1/projects/{slug}");
        let waiting = "wait_ms=25000";
        let of = |method, target: String, body: Value, words: &[&str]| Call {
            method,
            target,
            body,
            words: words.iter().map(|&word| word.to_owned()).collect(),
        };
        let at = format!("{slug}@{entry}");
        let fork = format!("{slug}-f");
        match act {
            Act::Create => of(
                "POST",
                format!("/v1/projects?{waiting}"),
                json!({ "slug": slug }),
                &["new", slug],
            ),
            Act::StoreFirst | Act::StoreSmall | Act::Gather => of(
                "GET",
                format!("/v1/diff?before={slug}@now&after={slug}@now"),
                Value::Null,
                &["diff", &format!("{slug}@now"), &format!("{slug}@now")],
            ),
            Act::Snapshot | Act::SnapshotUnchanged | Act::RollOff => of(
                "POST",
                format!("{project}/entries?{waiting}"),
                json!({ "message": "of the act" }),
                &["snapshot", slug, "-m", "of the act"],
            ),
            Act::ForkNow => of(
                "POST",
                format!("{project}/fork?{waiting}"),
                json!({ "as": fork }),
                &["fork", slug, "--as", &fork],
            ),
            Act::ForkEntry | Act::ColdFork => of(
                "POST",
                format!("{project}/fork?{waiting}"),
                json!({ "as": fork, "at": entry }),
                &["fork", &at, "--as", &fork],
            ),
            Act::ForkCount => of(
                "POST",
                format!("{project}/fork?{waiting}"),
                json!({ "as": fork, "count": 3 }),
                &["fork", slug, "--as", &fork, "--count", "3"],
            ),
            Act::Restore | Act::ColdRestore => of(
                "POST",
                format!("{project}/restore?{waiting}"),
                json!({ "entry": entry }),
                &["restore", slug, entry],
            ),
            Act::RestorePath | Act::ColdRestorePath => of(
                "POST",
                format!("{project}/restore?{waiting}"),
                json!({ "entry": entry, "paths": ["dir"] }),
                &["restore", slug, entry, "--", "dir"],
            ),
            Act::Trash => of("DELETE", project, Value::Null, &["rm", slug]),
            Act::Undelete => {
                of("POST", format!("{project}/undelete"), json!({}), &["undelete", slug])
            }
            Act::TrashEntry => {
                of("DELETE", format!("{project}/entries/{entry}"), Value::Null, &["rm", &at])
            }
            Act::UndeleteEntry => of(
                "POST",
                format!("{project}/undelete"),
                json!({ "entry": entry }),
                &["undelete", &at],
            ),
            Act::Pin => of(
                "PATCH",
                format!("{project}/entries/{entry}"),
                json!({ "pinned": true }),
                &["pin", &at],
            ),
            Act::Rename => of("PATCH", project, json!({ "slug": fork }), &["rename", slug, &fork]),
            Act::Recover => of(
                "POST",
                format!("/v1/recover?{waiting}"),
                json!({ "take": true }),
                &["recover", "--take"],
            ),
            Act::ColdRead => of(
                "GET",
                format!("{project}/files/content?path=same&at={entry}"),
                Value::Null,
                &["files", "cat", &format!("{at}:/same")],
            ),
        }
    }

    /// What must be so once it has taken effect.
    pub(crate) fn after(&self, act: Act) -> After {
        let (now, first) = (self.now.clone(), self.entries.first().map(|(_, files)| files.clone()));
        let fork = format!("{}-f", self.slug);
        let projects = vec![(self.slug.clone(), now.clone())];
        let mut after = After { projects, ..After::default() };
        match act {
            Act::Create
            | Act::StoreFirst
            | Act::StoreSmall
            | Act::Gather
            | Act::Undelete
            | Act::UndeleteEntry
            | Act::Recover
            | Act::ColdRead => {}
            Act::Snapshot | Act::SnapshotUnchanged => after.made.push(now),
            Act::RollOff => {
                after.made.push(now);
                after.trashed.insert(0);
            }
            Act::ForkNow => after.projects.push((fork, now)),
            Act::ForkEntry | Act::ColdFork => after.projects.push((fork, first.unwrap())),
            Act::ForkCount => {
                after.projects.extend((1..=3).map(|n| (format!("{fork}-{n}"), now.clone())));
            }
            Act::Restore | Act::ColdRestore => {
                after.projects[0].1 = first.unwrap();
                after.made.push(now);
            }
            Act::RestorePath | Act::ColdRestorePath => {
                let is_inside = |path: &str| path.starts_with("dir/");
                let files = &mut after.projects[0].1;
                files.retain(|path, _| !is_inside(path));
                files.extend(first.unwrap().into_iter().filter(|(path, _)| is_inside(path)));
                after.made.push(now);
            }
            Act::Trash => after.is_trashed = true,
            Act::TrashEntry => {
                after.trashed.insert(0);
            }
            Act::Pin => after.is_pinned = true,
            Act::Rename => after.projects[0].0 = fork,
        }
        after
    }
}
