//! Projects with a history, and what each state of them holds by the test's own account.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use cove_content::index;
use cove_testkit::proof::Chance;
use serde_json::{Value, json};

use crate::harness::{Cove, Objects, Settings, list, text, texts};

/// Files by path.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A project as it was saved.
pub(super) struct Project {
    pub(super) slug: String,
    /// Its entries, the oldest first, with the message of each.
    pub(super) entries: Vec<(String, String, Files)>,
    pub(super) now: Files,
}

impl Project {
    fn new(slug: &str) -> Self {
        Self { slug: slug.to_owned(), entries: Vec::new(), now: Files::new() }
    }

    /// Every state, by what the API calls it.
    pub(super) fn states(&self) -> impl Iterator<Item = (&str, &Files)> {
        let entries = self.entries.iter().map(|(id, _, files)| (id.as_str(), files));
        entries.chain([("now", &self.now)])
    }
}

/// A Cove and its projects.
pub(super) struct History {
    pub(super) cove: Cove,
    pub(super) projects: Vec<Project>,
}

/// The keys of the objects that the heads of a store name, and of the heads.
#[derive(Default)]
pub(super) struct Named {
    pub(super) heads: Vec<String>,
    pub(super) packs: Vec<String>,
    pub(super) indexes: Vec<String>,
}

/// How a file is read.
pub(super) enum Read {
    Right,
    /// An error, before its first byte or after right ones.
    Refused,
    /// Bytes that are not its own, or that it is not there.
    Wrong(String),
}

fn settings() -> Settings {
    Settings { pool_bytes: "256MiB", ..Settings::with(Objects::Directory) }
}

impl History {
    /// Three projects, of which `shop` is saved so often; one is a fork.
    pub(super) fn make(saves: u64) -> Option<Self> {
        let mut history = Self { cove: Cove::start_with(settings())?, projects: Vec::new() };
        let mut chance = Chance::new(saves);
        history.project("shop");
        let mut fork = None;
        for save in 0..saves {
            history.change("shop", save, &mut chance);
            let is_entry = [0, 5, saves / 2, saves - 2, saves - 1].contains(&save);
            match is_entry {
                true => history.snapshot("shop", save),
                false => history.look("shop"),
            }
            if save == saves / 2 {
                let (entry, _, files) = history.of("shop").entries.last().unwrap().clone();
                fork = Some((entry, files));
            }
        }
        history.project("notes");
        for save in 0..3 {
            history.change("notes", save, &mut chance);
            history.snapshot("notes", save);
        }
        let (entry, files) = fork.unwrap();
        history.cove.json(&["fork", &format!("shop@{entry}"), "--as", "fork"]);
        history.projects.push(Project { now: files, ..Project::new("fork") });
        for save in [saves, saves + 1] {
            history.change("fork", save, &mut chance);
            history.snapshot("fork", save);
        }
        Some(history)
    }

    fn project(&mut self, slug: &str) {
        self.cove.json(&["new", slug]);
        self.projects.push(Project::new(slug));
    }

    pub(super) fn of(&self, slug: &str) -> &Project {
        self.projects.iter().find(|project| project.slug == slug).unwrap()
    }

    /// Writes files as somebody does who works: some new, some anew, one gone.
    fn change(&mut self, slug: &str, save: u64, chance: &mut Chance) {
        let mut files = Files::new();
        let count = 2_000 + usize::try_from(chance.below(20_000)).unwrap();
        files.insert(format!("parts/part-{}", save % 6), chance.bytes(count));
        let lines: String = (0..200).map(|line| format!("{slug} {} {line}\n", save / 3)).collect();
        files.insert("src/deep/er/page.txt".to_owned(), lines.into_bytes());
        if save.is_multiple_of(30) {
            files.insert("same".to_owned(), b"the same for ever".to_vec());
            files.insert("large".to_owned(), chance.bytes(300_000));
        }
        let gone = (save % 10 == 9).then(|| format!("parts/part-{}", (save + 3) % 6));
        let root = self.cove.path(slug);
        for (path, bytes) in &files {
            let place = root.join(path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, bytes).unwrap();
        }
        let project = self.projects.iter_mut().find(|project| project.slug == slug).unwrap();
        project.now.extend(files);
        if let Some(gone) = gone
            && project.now.remove(&gone).is_some()
        {
            fs::remove_file(root.join(gone)).unwrap();
        }
    }

    fn snapshot(&mut self, slug: &str, save: u64) {
        let message = format!("save {save} of {slug}");
        let entry = self.cove.snapshot(slug, &message);
        let project = self.projects.iter_mut().find(|project| project.slug == slug).unwrap();
        project.entries.push((entry, message, project.now.clone()));
    }

    /// Saves as the background does.
    fn look(&self, slug: &str) {
        let target = format!("/v1/diff?before={slug}@now&after={slug}@now");
        let (status, body) = self.cove.call("GET", &target, &[], b"");
        assert_eq!(status, 200, "{body}");
    }

    /// What is read of entries comes from the store from now on.
    pub(super) fn lose_and_recover(&mut self) {
        self.cove.lose_and_recover();
    }

    /// Starts again with nothing in memory and nothing of the store on this disk but the present files.
    pub(super) fn start_with_empty_cache(&mut self) {
        assert!(self.cove.stop().success());
        fs::remove_dir_all(self.cove.home.join("state/cache")).unwrap();
        self.cove.up();
    }

    /// Where the objects lie, by their keys.
    pub(super) fn objects(&self) -> PathBuf {
        self.cove.objects_dir().join("objects")
    }

    /// What the heads name now.
    pub(super) fn named(&self) -> Named {
        let mut named = Named::default();
        for project in &self.projects {
            let key = self.head(&project.slug);
            let bytes = fs::read(self.objects().join(&key)).unwrap();
            let head: Value = serde_json::from_slice(&bytes).unwrap();
            let ids = |what: &str| -> Vec<String> {
                let all = head["locations"][what].as_array().cloned().unwrap_or_default();
                all.iter().map(|one| text(&one[0])).collect()
            };
            named.packs.extend(ids("packs").iter().map(|id| format!("teams/home/packs/{id}")));
            for id in ids("indexes") {
                let key = format!("teams/home/indexes/{id}");
                let table = index::check_whole(&fs::read(self.objects().join(&key)).unwrap());
                for pack in table.unwrap().packs() {
                    named.packs.push(format!("teams/home/packs/{}", pack.id));
                }
                named.indexes.push(key);
            }
            named.heads.push(key);
        }
        for keys in [&mut named.packs, &mut named.indexes] {
            let mut seen = std::collections::HashSet::new();
            keys.retain(|key| seen.insert(key.clone()));
        }
        named
    }

    /// The volume of a project.
    pub(super) fn volume(&self, slug: &str) -> String {
        text(&self.cove.json(&["show", slug])["project"]["volume"])
    }

    /// The key of a project's head.
    pub(super) fn head(&self, slug: &str) -> String {
        format!("teams/home/volumes/{}/head", self.volume(slug))
    }

    /// `verify --level 2` of everything: its exit status and its problems.
    pub(super) fn verify(&self) -> (i32, Vec<Value>) {
        let output = self.cove.cove(&["verify", "--level", "2", "--json"]);
        let verified: Value = serde_json::from_str(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", output.stdout, output.stderr));
        (output.code, list(&verified["problems"]))
    }

    /// The paths of the files of a state; `None` when they cannot be listed.
    pub(super) fn names(&self, slug: &str, entry: &str) -> Option<Vec<String>> {
        let target = format!("/v1/projects/{slug}/files?recursive=true&at={entry}");
        let (status, body) = self.cove.call("GET", &target, &[], b"");
        let listed: Value = serde_json::from_str(&body).ok().filter(|_| status == 200)?;
        let mut listed = list(&listed["files"]);
        listed.retain(|file| file["kind"] == "file");
        Some(texts(&json!(listed), "path"))
    }

    /// Reads a file whose bytes are known.
    pub(super) fn read(&self, slug: &str, entry: &str, path: &str, expected: &[u8]) -> Read {
        let target = format!("/v1/projects/{slug}/files/content?path={path}&at={entry}");
        let (status, body) = self.cove.read(&target);
        match status {
            200 if body == expected => Read::Right,
            200 if expected.starts_with(&body) => Read::Refused,
            200 => Read::Wrong(format!("{} bytes that are not its own", body.len())),
            404 | 400 => Read::Wrong(format!("{status} {}", String::from_utf8_lossy(&body))),
            _ => Read::Refused,
        }
    }

    /// What of the projects is not as it was saved: a project, an entry or its message, a file.
    pub(super) fn amiss(&self) -> Vec<String> {
        let mut amiss = Vec::new();
        for project in &self.projects {
            let slug = &project.slug;
            let timeline = self.cove.cove(&["timeline", slug, "--json"]);
            let Ok(timeline) = serde_json::from_str::<Value>(&timeline.stdout) else {
                amiss.push(format!("{slug} has no timeline: {}", timeline.stderr));
                continue;
            };
            for (id, message, _) in &project.entries {
                let told = list(&timeline["entries"]);
                let told = told.iter().find(|entry| entry["id"] == id.as_str());
                if told.is_none_or(|entry| entry["message"] != message.as_str()) {
                    amiss.push(format!("{slug}@{id}, {message:?}, is {told:?}"));
                }
            }
            for (entry, files) in project.states() {
                for (path, bytes) in files {
                    match self.read(slug, entry, path, bytes) {
                        Read::Right => {}
                        Read::Refused => amiss.push(format!("{slug}@{entry}:/{path} is refused")),
                        Read::Wrong(what) => amiss.push(format!("{slug}@{entry}:/{path}: {what}")),
                    }
                }
            }
        }
        amiss
    }
}
