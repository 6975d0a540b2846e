use std::io::Read;
use std::sync::Arc;

use cove_content::document::ProjectDocument;
use cove_content::entry::ENTRIES_MAX;
use cove_content::spec::VolumeSpec;
use cove_content::volumes::{Call, FileEdit, NewVolume, Progress, Source, VerifyLevel, Volumes};
use cove_env::{ManualClock, SeededChance};
use cove_types::{Classify, Durability, EntryState, ErrorKind, Label, OperationId, TreePath};

use super::*;
use crate::fake::Fake;
use crate::{Failure, Request, Started};

/// A server with volumes in memory.
pub(crate) struct Server {
    pub(crate) workspaces: Workspaces,
    pub(crate) fake: Fake,
    pub(crate) database: ServerDatabase,
    clock: Arc<ManualClock>,
    _directory: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new("2026-11-25T12:00:00Z".parse().unwrap()));
        let env = Env::new(clock.clone(), Arc::new(SeededChance::new(7)));
        let fake = Fake::new(env.clone());
        let database = ServerDatabase::open(&directory.path().join("server.db")).await.unwrap();
        let workspaces = workspaces(&fake, &database, env);
        Self { workspaces, fake, database, clock, _directory: directory }
    }

    /// The same database and volumes, and nothing of what was in memory.
    pub(crate) fn restarted(&self) -> Workspaces {
        let env = Env::new(self.clock.clone(), Arc::new(SeededChance::new(8)));
        workspaces(&self.fake, &self.database, env)
    }

    pub(crate) fn tick(&self) {
        self.pass(std::time::Duration::from_secs(1));
    }

    pub(crate) fn pass(&self, time: std::time::Duration) {
        self.clock.advance(time);
    }

    /// The row of a call, and all else, as after a crash between its effect and its end.
    async fn interrupted(&self, key: &str) -> Workspaces {
        let update = cove_database::OperationUpdate {
            state: cove_database::OperationState::Running,
            result: None,
            error: None,
            at_us: 0,
            audit: None,
        };
        self.database.update_operation("owner", key, update).await.unwrap();
        self.restarted()
    }

    pub(crate) async fn create(&self, name: &str, archive: &'static str) -> wire::Project {
        self.tick();
        let key = format!("create-{name}");
        let started =
            self.workspaces.create(&ask(&key), &slug(name), None, tar(archive)).await.unwrap();
        started.saved.await.unwrap().project
    }

    async fn snapshot(&self, name: &str, message: &str) -> wire::EntryReply {
        self.tick();
        let key = format!("snapshot-{name}-{message}");
        let asked = ask(&key);
        let started =
            self.workspaces.snapshot(&asked, &slug(name), Some(message), None).await.unwrap();
        started.saved.await.unwrap()
    }

    async fn put(&self, name: &str, at: &str, content: &'static str) {
        let edit = FileEdit::Put(path(at), Box::new(content.as_bytes()));
        self.workspaces.edit(&ask("put"), &slug(name), edit).await.unwrap();
    }

    async fn content(&self, reference: &str, at: &str) -> String {
        let (_, mut reader) =
            self.workspaces.read(&at_moment(reference), &path(at), None).await.unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    async fn names(&self) -> String {
        let reply = self.workspaces.list(false).await.unwrap();
        reply.projects.iter().map(|project| project.slug.as_str()).collect::<Vec<_>>().join(" ")
    }
}

fn workspaces(fake: &Fake, database: &ServerDatabase, env: Env) -> Workspaces {
    let options =
        Options { keep: 3, node: "n1".parse().unwrap(), saved_to: "s3://bucket/cove".into() };
    Workspaces::new(Arc::new(fake.clone()), database.clone(), env, options)
}

pub(crate) fn ask(key: &str) -> Request {
    Request { key: key.into(), principal: "owner".into(), request_id: "r1".into() }
}

pub(crate) fn slug(text: &str) -> Slug {
    text.parse().unwrap()
}

fn at_moment(text: &str) -> ProjectReference {
    text.parse().unwrap()
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

fn tar(archive: &'static str) -> Source {
    Source::Archive(Box::new(archive.as_bytes()))
}

fn slugs(reply: &wire::ProjectsReply) -> Vec<&str> {
    reply.projects.iter().map(|project| project.slug.as_str()).collect()
}

#[tokio::test]
async fn a_new_project_is_on_this_node_first_and_saved_later() {
    let server = Server::new().await;
    server.fake.let_save(false);
    let source = tar("package.json={}\n");
    let Started { captured, saved, .. } =
        server.workspaces.create(&ask("k"), &slug("shop"), None, source).await.unwrap();
    assert_eq!(captured.project.durability, Durability::OnThisNode);
    assert_eq!((captured.project.slug.as_str(), captured.project.entries), ("shop", 0));
    server.fake.let_save(true);
    let project = saved.await.unwrap().project;
    assert_eq!((project.durability, project.unsaved_bytes), (Durability::Saved, Some(0)));
    assert_eq!(project.saved_to, "s3://bucket/cove");
    assert_eq!(server.content("shop", "/package.json").await, "{}");
}

#[tokio::test]
async fn a_taken_name_changes_nothing() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let error =
        server.workspaces.create(&ask("k"), &slug("shop"), None, tar("a=2")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(error.to_string(), "a project named shop exists already");
    assert!(error.hint().is_some());
    assert_eq!((server.fake.count(), server.content("shop", "a").await), (1, "1".into()));
}

#[tokio::test]
async fn a_broken_archive_leaves_its_name_free() {
    let server = Server::new().await;
    let broken = tar("../climbs=1");
    let error = server.workspaces.create(&ask("k"), &slug("shop"), None, broken).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    server.create("shop", "a=1").await;
}

#[tokio::test]
async fn the_same_key_gives_the_first_result_and_has_one_effect() {
    let server = Server::new().await;
    let first = server.create("shop", "a=1").await;
    let again = server
        .workspaces
        .create(&ask("create-shop"), &slug("shop"), None, tar("a=2"))
        .await
        .unwrap();
    assert_eq!(again.captured.project, first);
    assert_eq!(again.saved.await.unwrap().project, first);
    assert_eq!((server.fake.count(), server.content("shop", "a").await), (1, "1".into()));
}

#[tokio::test]
async fn a_key_that_was_used_for_another_request_is_refused() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let asked = ask("create-shop");
    let error =
        server.workspaces.create(&asked, &slug("blog"), None, tar("a=1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let error = server.workspaces.trash(&asked, &slug("shop")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(server.names().await, "shop");
}

#[tokio::test]
async fn keys_of_two_people_are_two_keys() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let other = Request { principal: "other".into(), ..ask("create-shop") };
    let started = server.workspaces.create(&other, &slug("blog"), None, tar("a=1")).await.unwrap();
    started.saved.await.unwrap();
    assert_eq!(server.names().await, "blog shop");
}

#[tokio::test]
async fn who_repeats_a_running_call_joins_it() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    server.fake.let_save(false);
    let asked = ask("k");
    let first = server.workspaces.snapshot(&asked, &slug("shop"), None, None).await.unwrap();
    let second = server.workspaces.snapshot(&asked, &slug("shop"), None, None).await.unwrap();
    assert_eq!(first.operation, second.operation);
    let known = server.workspaces.operation(&first.operation).await.unwrap().unwrap();
    assert_eq!(known.state.as_str(), "captured");
    server.fake.let_save(true);
    let (first, second) = (first.saved.await.unwrap(), second.saved.await.unwrap());
    assert_eq!(first.entry, second.entry);
    assert_eq!(server.workspaces.timeline(&slug("shop"), true).await.unwrap().entries.len(), 1);
}

#[tokio::test]
async fn a_call_goes_on_when_its_caller_has_gone() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    server.fake.let_save(false);
    let started = server.workspaces.snapshot(&ask("k"), &slug("shop"), None, None).await.unwrap();
    let id = started.operation;
    drop(started);
    server.fake.let_save(true);
    server.workspaces.wait(&slug("shop")).await.unwrap();
    let again = server.workspaces.snapshot(&ask("k"), &slug("shop"), None, None).await.unwrap();
    assert!(again.saved.await.unwrap().entry.saved_ms.is_some());
    let known = server.workspaces.operation(&id).await.unwrap().unwrap();
    assert_eq!(known.state.as_str(), "done");
    assert!(known.result.is_some());
}

#[tokio::test]
async fn a_lost_reply_is_found_under_its_key() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    server.fake.fail_next(ErrorKind::TimedOut, true);
    let asked = ask("k");
    let error = server.workspaces.snapshot(&asked, &slug("shop"), None, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let again = server.workspaces.snapshot(&asked, &slug("shop"), None, None).await.unwrap();
    again.saved.await.unwrap();
    assert_eq!(server.workspaces.timeline(&slug("shop"), true).await.unwrap().entries.len(), 1);
}

#[tokio::test]
async fn a_create_whose_end_is_unknown_keeps_its_name_until_it_is_known() {
    let server = Server::new().await;
    server.fake.fail_next(ErrorKind::TimedOut, true);
    let error =
        server.workspaces.create(&ask("k"), &slug("shop"), None, tar("a=1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let error = server.workspaces.show(&slug("shop")).await.unwrap_err();
    let being_made = "project shop is being made, or cleared away after an interruption";
    assert_eq!(error.to_string(), being_made);
    // No list shows it, so nobody else is told that there is such a project.
    let asked = ask("other");
    let error =
        server.workspaces.create(&asked, &slug("shop"), None, tar("a=1")).await.unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Conflict, being_made));
    let again = server.workspaces.create(&ask("k"), &slug("shop"), None, tar("a=1")).await.unwrap();
    again.saved.await.unwrap();
    assert_eq!((server.names().await, server.fake.count()), ("shop".into(), 1));
}

#[tokio::test]
async fn a_refusal_is_the_keys_result_and_a_full_disk_is_not() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let (asked, shop) = (ask("k"), slug("shop"));
    server.fake.fail_next(ErrorKind::Precondition, false);
    for _ in 0..2 {
        let error = server.workspaces.snapshot(&asked, &shop, None, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Precondition);
    }
    server.fake.fail_next(ErrorKind::Exhausted, false);
    let asked = ask("k2");
    let error = server.workspaces.snapshot(&asked, &shop, None, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    server.workspaces.snapshot(&asked, &shop, None, None).await.unwrap().saved.await.unwrap();
}

#[tokio::test]
async fn a_fork_tells_where_it_comes_from() {
    let server = Server::new().await;
    let shop = server.create("shop", "a=1").await;
    let entry = server.snapshot("shop", "one").await.entry;
    server.put("shop", "a", "2").await;
    let wanted = slug("intake");
    let forked = server
        .workspaces
        .fork(&ask("f"), &at_moment(&format!("shop@{}", entry.id)), Some(&wanted), None)
        .await
        .unwrap();
    let forked = forked.saved.await.unwrap();
    let from = forked.projects[0].forked_from.clone().unwrap();
    assert_eq!((from.project, from.entry, Some(from.tree)), (shop.id, Some(entry.id), entry.tree));
    assert_eq!(forked.projects[0].entries, 0);
    assert_eq!(server.content("intake", "a").await, "1");
    assert_eq!(server.content("shop", "a").await, "2");
}

#[tokio::test]
async fn forks_are_named_in_order_and_once_for_their_key() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    server.create("shop-2", "a=1").await;
    let source = at_moment("shop");
    for _ in 0..2 {
        let forked = server.workspaces.fork(&ask("f"), &source, None, Some(3)).await.unwrap();
        assert_eq!(slugs(&forked.captured), ["shop-1", "shop-3", "shop-4"]);
        assert_eq!(slugs(&forked.saved.await.unwrap()), ["shop-1", "shop-3", "shop-4"]);
    }
    let asked = ask("g");
    let error =
        server.workspaces.fork(&asked, &source, Some(&slug("shop")), Some(4)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!((server.fake.count(), server.database.projects().await.unwrap().len()), (5, 5));
}

#[tokio::test]
async fn a_fork_that_fails_frees_all_its_names() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    server.fake.fail_next(ErrorKind::Exhausted, false);
    let source = at_moment("shop");
    server.workspaces.fork(&ask("f"), &source, None, Some(3)).await.unwrap_err();
    assert_eq!(server.database.projects().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_restore_keeps_the_state_before_it() {
    let server = Server::new().await;
    server.create("shop", "a=1\nb=1").await;
    server.snapshot("shop", "one").await;
    server.put("shop", "a", "2").await;
    server.put("shop", "b", "2").await;
    let (asked, shop, at) = (ask("r"), slug("shop"), "~1".parse().unwrap());
    let restored =
        server.workspaces.restore(&asked, &shop, &at, &[path("a")], false).await.unwrap();
    let before = restored.saved.await.unwrap().entry.unwrap();
    assert_eq!(before.kind, cove_types::EntryKind::BeforeRestore);
    assert_eq!(server.content("shop", "a").await, "1");
    assert_eq!(server.content("shop", "b").await, "2");
    assert_eq!(server.content(&format!("shop@{}", before.id), "a").await, "2");
}

#[tokio::test]
async fn nobody_restores_the_present_state() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let (asked, shop) = (ask("r"), slug("shop"));
    let error = server.workspaces.restore(&asked, &shop, &At::Now, &[], false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn what_rolls_off_is_named_and_comes_back_pinned() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let first = server.snapshot("shop", "one").await.entry;
    for message in ["two", "three"] {
        assert_eq!(server.snapshot("shop", message).await.rolled_off, []);
    }
    let rolled_off = server.snapshot("shop", "four").await.rolled_off;
    assert_eq!(rolled_off.iter().map(|entry| &entry.id).collect::<Vec<_>>(), [&first.id]);
    let reference = at_moment(&format!("shop@{}", first.id));
    let error = server.workspaces.pin(&ask("p"), &reference, true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let back = server.workspaces.undelete(&ask("u"), &reference).await.unwrap();
    assert_eq!(back.entry.map(|entry| (entry.id, entry.pinned)), Some((first.id, true)));
    let error = server.workspaces.undelete(&ask("u2"), &reference).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Precondition);
}

#[tokio::test]
async fn an_entry_is_moved_to_the_trash_unless_it_is_pinned() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let entry = server.snapshot("shop", "one").await.entry;
    let reference = at_moment(&format!("shop@{}", entry.id));
    server.workspaces.pin(&ask("p"), &reference, true).await.unwrap();
    let error = server.workspaces.trash_entry(&ask("t"), &reference).await.unwrap_err();
    assert_eq!(
        told(&error),
        (
            ErrorKind::Precondition,
            format!("entry {} of shop is pinned", entry.id),
            Some(format!("`cove unpin shop@{}` first, then it can go", entry.id)),
        )
    );
    assert_eq!(server.workspaces.timeline(&slug("shop"), false).await.unwrap().entries.len(), 1);
    server.workspaces.pin(&ask("u"), &reference, false).await.unwrap();
    let now = at_moment("shop@now");
    let error = server.workspaces.trash_entry(&ask("n"), &now).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    for _ in 0..2 {
        let reply = server.workspaces.trash_entry(&ask("t2"), &reference).await.unwrap();
        assert_eq!((reply.entry.state, reply.rolled_off), (EntryState::Trashed, Vec::new()));
    }
    assert_eq!(server.workspaces.timeline(&slug("shop"), false).await.unwrap().entries, []);
    server.workspaces.undelete(&ask("b"), &reference).await.unwrap();
    assert_eq!(server.content(&format!("shop@{}", entry.id), "a").await, "1");
}

#[tokio::test]
async fn an_unpin_over_the_number_rolls_off_the_oldest() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let first = server.snapshot("shop", "one").await.entry;
    let second = server.snapshot("shop", "two").await.entry;
    let of = |entry: &wire::Entry| at_moment(&format!("shop@{}", entry.id));
    for entry in [&first, &second] {
        server.workspaces.pin(&ask(&format!("pin-{}", entry.id)), &of(entry), true).await.unwrap();
    }
    let third = server.snapshot("shop", "three").await.entry;
    for message in ["four", "five"] {
        assert_eq!(server.snapshot("shop", message).await.rolled_off, []);
    }
    let ids = |entries: &[wire::Entry]| -> Vec<(String, EntryState)> {
        entries.iter().map(|entry| (entry.id.clone(), entry.state)).collect()
    };
    let reply = server.workspaces.pin(&ask("unpin-2"), &of(&second), false).await.unwrap();
    assert_eq!(ids(&reply.rolled_off), [(second.id.clone(), EntryState::Trashed)]);
    assert_eq!((reply.entry.id, reply.entry.state), (second.id.clone(), EntryState::Trashed));
    server.workspaces.undelete(&ask("back"), &of(&second)).await.unwrap();
    // The one that is asked about is not the oldest any more.
    server.workspaces.trash_entry(&ask("rm"), &of(&third)).await.unwrap();
    assert_eq!(
        server.workspaces.pin(&ask("unpin-3"), &of(&second), false).await.unwrap().rolled_off,
        []
    );
    let reply = server.workspaces.pin(&ask("unpin-1"), &of(&first), false).await.unwrap();
    assert_eq!(ids(&reply.rolled_off), [(first.id.clone(), EntryState::Trashed)]);
    let again = server.workspaces.pin(&ask("unpin-1"), &of(&first), false).await.unwrap();
    assert_eq!(ids(&again.rolled_off), ids(&reply.rolled_off));
}

#[tokio::test]
async fn a_label_is_found_though_an_id_begins_with_it() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let first = server.snapshot("shop", "one").await.entry;
    server.put("shop", "a", "2").await;
    let second = server.snapshot("shop", "two").await.entry;
    let label: Label = first.id[..4].parse().unwrap();
    let reference = at_moment(&format!("shop@{}", second.id));
    server.workspaces.label(&ask("l"), &reference, Some(&label)).await.unwrap();
    assert_eq!(server.content(&format!("shop@{label}"), "a").await, "2");
    assert_eq!(server.content(&format!("shop@{}", &first.id[..5]), "a").await, "1");
}

#[tokio::test]
async fn a_label_names_one_entry() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let first = server.snapshot("shop", "one").await.entry;
    let second = server.snapshot("shop", "two").await.entry;
    let label: Label = "v1".parse().unwrap();
    let of = |entry: &wire::Entry| at_moment(&format!("shop@{}", entry.id));
    let reply = server.workspaces.label(&ask("l"), &of(&first), Some(&label)).await.unwrap();
    assert_eq!(reply.entry.label.as_deref(), Some("v1"));
    let asked = ask("l2");
    let error = server.workspaces.label(&asked, &of(&second), Some(&label)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(server.content("shop@v1", "a").await, "1");
    let reply = server.workspaces.label(&ask("l3"), &at_moment("shop@v1"), None).await.unwrap();
    assert_eq!(reply.entry.label, None);
}

#[tokio::test]
async fn a_renamed_project_is_found_under_its_new_name_only() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    server.create("blog", "a=1").await;
    let error =
        server.workspaces.rename(&ask("n"), &slug("shop"), &slug("blog")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    for _ in 0..2 {
        let reply =
            server.workspaces.rename(&ask("n2"), &slug("shop"), &slug("store")).await.unwrap();
        assert_eq!((reply.project.slug.as_str(), reply.project.name.as_str()), ("store", "store"));
    }
    assert_eq!(server.names().await, "blog store");
    assert_eq!(
        server.workspaces.show(&slug("shop")).await.unwrap_err().to_string(),
        "project shop does not exist"
    );
}

#[tokio::test]
async fn the_trash_frees_a_name_and_gives_the_project_back() {
    let server = Server::new().await;
    let first = server.create("shop", "a=1").await;
    for _ in 0..2 {
        let reply = server.workspaces.trash(&ask("t"), &slug("shop")).await.unwrap();
        assert_eq!(
            (reply.project.id.as_str(), reply.project.state.as_str()),
            (&*first.id, "trashed")
        );
        assert!(reply.project.trashed_at.is_some());
    }
    assert_eq!(slugs(&server.workspaces.list(true).await.unwrap()), ["shop"]);
    let asked = ask("second");
    let second = server.workspaces.create(&asked, &slug("shop"), None, tar("a=2")).await.unwrap();
    second.saved.await.unwrap();
    let reference = at_moment("shop");
    let error = server.workspaces.undelete(&ask("u"), &reference).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    server.workspaces.rename(&ask("n"), &slug("shop"), &slug("new")).await.unwrap();
    let back = server.workspaces.undelete(&ask("u2"), &reference).await.unwrap();
    assert_eq!((back.project.id, back.entry), (first.id, None));
    assert_eq!(server.names().await, "new shop");
    let error = server.workspaces.undelete(&ask("u3"), &reference).await.unwrap_err();
    assert_eq!(error.to_string(), "project shop is not in the trash");
}

#[tokio::test]
async fn files_are_listed_found_and_searched_at_any_moment() {
    let server = Server::new().await;
    server.create("shop", "src/app.ts=let a\nsrc/b.txt=let b\nc=x").await;
    server.snapshot("shop", "one").await;
    server.put("shop", "src/app.ts", "const a\nlet c").await;
    let (now, then) = (at_moment("shop"), at_moment("shop@~1"));
    let paths = |reply: &wire::FilesReply| {
        reply.files.iter().map(|file| file.path.clone()).collect::<Vec<_>>().join(" ")
    };
    let top = TreePath::top();
    let reply = server.workspaces.files(&now, &top, false).await.unwrap().reply();
    assert_eq!(paths(&reply), "c src");
    let reply = server.workspaces.files(&now, &path("src"), true).await.unwrap().reply();
    assert_eq!(paths(&reply), "src/app.ts src/b.txt");
    let reply = server.workspaces.files(&now, &path("c"), true).await.unwrap().reply();
    assert_eq!((paths(&reply).as_str(), reply.files[0].mode.as_str()), ("c", "0644"));
    assert_eq!(paths(&server.workspaces.file(&now, &top).await.unwrap()), ".");
    assert_eq!(
        paths(&server.workspaces.find(&now, &top, "*.ts", None).await.unwrap().reply()),
        "src/app.ts"
    );
    let lines = |reply: wire::MatchesReply| {
        let shown = |found: wire::Match| format!("{}:{}:{}", found.path, found.line, found.text);
        reply.matches.into_iter().map(shown).collect::<Vec<_>>()
    };
    let wanted = crate::LinePattern::parse("let", false, false).unwrap();
    let found = lines(server.workspaces.grep(&now, &top, &wanted).await.unwrap());
    assert_eq!(found, ["src/app.ts:2:let c", "src/b.txt:1:let b"]);
    let found = lines(server.workspaces.grep(&then, &path("src/app.ts"), &wanted).await.unwrap());
    assert_eq!(found, ["src/app.ts:1:let a"]);
    let error = server.workspaces.file(&now, &path("no")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::NotFound, "no does not exist")
    );
    let changes = server.workspaces.diff(&then, &now).await.unwrap().changes;
    assert_eq!(
        changes.iter().map(|change| change.path.as_str()).collect::<Vec<_>>(),
        ["src/app.ts"]
    );
}

#[tokio::test]
async fn a_removal_is_done_once_for_its_key() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let remove = || FileEdit::Remove { path: path("a"), recursive: false };
    for _ in 0..2 {
        let reply = server.workspaces.edit(&ask("rm"), &slug("shop"), remove()).await.unwrap();
        assert_eq!(reply.files[0].path, "a");
    }
    let error = server.workspaces.edit(&ask("rm2"), &slug("shop"), remove()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_was_interrupted_after_its_effect_gives_the_first_result() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let first = server.snapshot("shop", "one").await.entry;
    let second = server.snapshot("shop", "two").await.entry;
    let label: Label = "v1".parse().unwrap();
    let id = at_moment(&format!("shop@{}", first.id));
    server.workspaces.label(&ask("l"), &id, Some(&label)).await.unwrap();
    let labelled = at_moment("shop@v1");

    server.workspaces.trash_entry(&ask("rm"), &labelled).await.unwrap();
    let again = server.interrupted("rm").await.trash_entry(&ask("rm"), &labelled).await.unwrap();
    assert_eq!((&again.entry.id, again.entry.state), (&first.id, EntryState::Trashed));
    // The name means another entry by now.
    let other = at_moment(&format!("shop@{}", second.id));
    server.workspaces.label(&ask("l2"), &other, Some(&label)).await.unwrap();
    let again = server.interrupted("rm").await.trash_entry(&ask("rm"), &labelled).await.unwrap();
    assert_eq!(again.entry.id, first.id);
    assert_eq!(server.workspaces.timeline(&slug("shop"), false).await.unwrap().entries.len(), 1);

    server.workspaces.undelete(&ask("back"), &id).await.unwrap();
    let again = server.interrupted("back").await.undelete(&ask("back"), &id).await.unwrap();
    assert_eq!(
        again.entry.map(|entry| (entry.id, entry.state)),
        Some((first.id, EntryState::Live))
    );

    server.workspaces.pin(&ask("pin"), &labelled, true).await.unwrap();
    server.workspaces.label(&ask("l3"), &other, None).await.unwrap();
    let again = server.interrupted("pin").await.pin(&ask("pin"), &labelled, true).await.unwrap();
    assert_eq!((again.entry.id, again.entry.pinned), (second.id, true));
}

#[tokio::test]
async fn a_change_of_files_that_was_interrupted_takes_what_is_so_for_its_own() {
    let server = Server::new().await;
    server.create("shop", "a=1\nb=2").await;
    let shop = slug("shop");
    for key in ["rm", "mv"] {
        let edit = || match key {
            "rm" => FileEdit::Remove { path: path("a"), recursive: false },
            _ => FileEdit::Move { from: path("b"), to: path("c") },
        };
        server.workspaces.edit(&ask(key), &shop, edit()).await.unwrap();
        let again = server.interrupted(key).await;
        let reply = again.edit(&ask(key), &shop, edit()).await.unwrap();
        assert_eq!(reply.remarks, ["an attempt that was interrupted had done it already"]);
        let fresh = format!("{key}2");
        let error = server.workspaces.edit(&ask(&fresh), &shop, edit()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    assert_eq!(server.content("shop", "c").await, "2");
}

#[tokio::test]
async fn a_call_that_nobody_works_since_a_crash_is_not_said_to_run() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let asked = ask("k");
    let started = server.workspaces.snapshot(&asked, &slug("shop"), None, None).await.unwrap();
    let operation = started.operation;
    started.saved.await.unwrap();
    let workspaces = server.interrupted("k").await;
    assert!(workspaces.operation(&operation).await.unwrap().is_none(), "so that it is repeated");
    let again = workspaces.snapshot(&asked, &slug("shop"), None, None).await.unwrap();
    again.saved.await.unwrap();
    assert_eq!(workspaces.operation(&operation).await.unwrap().unwrap().state.as_str(), "done");
}

#[tokio::test]
async fn what_failed_once_a_call_had_taken_effect_is_not_its_result() {
    let gone = WorkspaceError::NoProject { slug: slug("shop") };
    assert!(Failure::from(&gone).is_final());
    let failure = Failure::from(&took_effect(&slug("shop"))(gone));
    assert_eq!((failure.kind, failure.is_final()), (ErrorKind::TimedOut, false));
    assert_eq!(
        failure.what,
        "the change of shop took effect, but what it came to could not be read: \
         project shop does not exist"
    );
}

#[tokio::test]
async fn a_name_that_was_taken_while_its_project_was_made_gets_a_number() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let row = server.database.projects().await.unwrap().remove(0);
    let other = ProjectRow {
        id: "prj-other".parse().unwrap(),
        volume: "vol-other".parse().unwrap(),
        created_us: row.created_us + 1,
        ..row
    };
    let made = server.workspaces.inner().made(&[other]).await.unwrap();
    assert_eq!(made[0].slug.as_str(), "shop-2");
    let rows = server.database.projects().await.unwrap();
    assert_eq!(rows.iter().map(|row| row.slug.as_str()).collect::<Vec<_>>(), ["shop", "shop-2"]);
}

#[tokio::test]
async fn a_search_that_finds_more_than_it_gives_says_so() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    for (more, remarks) in [(0, 0), (1, 1)] {
        let text = "x\n".repeat(crate::search::MATCHES_MAX + more);
        let edit = FileEdit::Put(path("a"), Box::new(std::io::Cursor::new(text.into_bytes())));
        server.workspaces.edit(&ask("put"), &slug("shop"), edit).await.unwrap();
        let pattern = crate::LinePattern::parse("x", false, false).unwrap();
        let top = TreePath::top();
        let reply = server.workspaces.grep(&at_moment("shop"), &top, &pattern).await.unwrap();
        assert_eq!((reply.matches.len(), reply.remarks.len()), (10_000, remarks));
    }
}

#[tokio::test]
async fn a_project_takes_snapshots_for_ever_unless_none_of_its_entries_is_in_the_trash() {
    let server = Server::new().await;
    let shop = server.create("shop", "a=1").await;
    for n in 0..ENTRIES_MAX + 4 {
        server.snapshot("shop", &n.to_string()).await;
    }
    let all = server.workspaces.timeline(&slug("shop"), true).await.unwrap().entries;
    assert_eq!((all.len(), all[0].message.as_deref()), (ENTRIES_MAX, Some("259")));
    let volume = shop.volume.parse().unwrap();
    for entry in all.iter().filter(|entry| entry.state == EntryState::Live) {
        let reference = at_moment(&format!("shop@{}", entry.id));
        server.workspaces.pin(&ask(&entry.id), &reference, true).await.unwrap();
    }
    for _ in 3..ENTRIES_MAX {
        server.fake.rescue(&volume);
    }
    let asked = ask("full");
    let error = server.workspaces.snapshot(&asked, &slug("shop"), None, None).await.unwrap_err();
    assert!(error.to_string().contains("256 entries"), "{error}");
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_once() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    server.put("shop", "a", "2").await;
    let asked = ask("x");
    server.workspaces.create(&asked, &slug("shop"), None, Source::Empty).await.unwrap_err();
    server.create("shop", "a=1").await;
    server.workspaces.trash(&ask("t"), &slug("shop")).await.unwrap();
    let rows = server.database.audit(0, 100).await.unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|row| format!("{} {} {}", row.record.action, row.record.resource, row.record.outcome))
        .collect();
    assert_eq!(
        told,
        [
            "project.create shop ok",
            "file.put shop:/a ok",
            "project.create shop already_exists",
            "project.trash shop ok"
        ]
    );
    assert!(server.workspaces.doctor().await.checks.iter().all(|check| check.ok));
}

/// A volume that is no project's.
async fn alone(server: &Server) -> VolumeId {
    let volume: VolumeId = "vol-a".parse().unwrap();
    let shop = server.create("shop", "a=1").await;
    let document = server.fake.status(&shop.volume.parse().unwrap()).await.unwrap().document;
    let document = ProjectDocument { id: "prj-a".parse().unwrap(), ..document };
    let spec = VolumeSpec { stands_alone: true, ..VolumeSpec::default() };
    let new = NewVolume { volume: volume.clone(), document, spec };
    let call = Call {
        operation: "00000000aabbccddeeff001122334455".parse().unwrap(),
        principal: "owner".into(),
        request: [0; 8],
        progress: Progress::default(),
    };
    server.fake.create(call, new, Source::Empty).await.unwrap();
    volume
}

#[tokio::test]
async fn a_volume_that_is_becoming_one_project_does_not_become_another() {
    let server = Server::new().await;
    let volume = alone(&server).await;
    let status = server.fake.status(&volume).await.unwrap();
    let row =
        ProjectRow { slug: slug("first"), state: ProjectState::Creating, ..row_of(None, &status) };
    server.database.insert_projects(&[row]).await.unwrap();
    let second =
        server.workspaces.adopt(&ask("two"), &slug("second"), &volume, Some(1 << 30)).await;
    let error = second.map(drop).unwrap_err();
    assert_eq!(told(&error).1, "volume vol-a is the workspace of project first");
    assert_eq!(server.fake.status(&volume).await.unwrap().spec, status.spec);
    let rows = server.database.projects().await.unwrap();
    assert!(rows.iter().any(|row| row.slug == slug("first")), "{rows:?}");
}

#[tokio::test]
async fn a_volume_that_goes_while_it_becomes_a_project_leaves_the_name_free() {
    let server = Server::new().await;
    let volume = alone(&server).await;
    server.fake.delete_before_next(&volume);
    let adopted = server.workspaces.adopt(&ask("one"), &slug("late"), &volume, None).await;
    assert_eq!(told(&adopted.map(drop).unwrap_err()).1, "volume vol-a does not exist");
    assert_eq!(server.names().await, "shop");
    server.create("late", "b=2").await;
}

#[tokio::test]
async fn what_verify_found_is_shown_with_the_project() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    server.snapshot("shop", "one").await;
    let reply = server.workspaces.verify(None, VerifyLevel::Located).await.unwrap();
    assert_eq!((reply.checked.projects, reply.checked.entries), (1, 2));
    let project = server.workspaces.show(&slug("shop")).await.unwrap().project;
    assert_eq!(project.health.last_verify.map(|last| last.problems), Some(0));
}

#[tokio::test]
async fn a_shallower_check_does_not_clear_what_a_deeper_one_found() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let read = VerifyLevel::Read { part: 1, of: 1 };
    for (level, rots, problems, state) in [
        (read, true, 1, "at_risk"),
        (VerifyLevel::Located, true, 0, "at_risk"),
        (read, false, 0, "ok"),
    ] {
        server.fake.rot(rots);
        let reply = server.workspaces.verify(Some(&slug("shop")), level).await.unwrap();
        assert_eq!(reply.problems.len(), problems, "{level:?}");
        let health = server.workspaces.show(&slug("shop")).await.unwrap().project.health;
        assert_eq!(health.state, state, "{level:?}");
        if let Some(problem) = health.problems.first() {
            assert_eq!(problem.hint.as_deref(), Some("`cove verify shop --level 2` names them"));
        }
    }
}

#[tokio::test]
async fn unlawful_keys_and_messages_are_refused() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let shop = slug("shop");
    let error = server.workspaces.trash(&ask("a b"), &shop).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let long = "m".repeat(1_001);
    for message in [long.as_str(), "\x1b[2J"] {
        let asked = ask("k");
        let result = server.workspaces.snapshot(&asked, &shop, Some(message), None).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn an_operation_id_as_a_key_is_that_operation() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let key = "00000001aabbccddeeff001122334455";
    let started = server.workspaces.snapshot(&ask(key), &slug("shop"), None, None).await.unwrap();
    assert_eq!(started.operation.to_string(), key);
    let started =
        server.workspaces.snapshot(&ask("text"), &slug("shop"), None, None).await.unwrap();
    assert_eq!(started.operation.seq(), 2);
}

/// An error as whoever calls is told it.
fn told(error: &WorkspaceError) -> (ErrorKind, String, Option<String>) {
    let crate::Failure { kind, what, hint } = crate::Failure::from(error);
    (kind, what, hint)
}

#[tokio::test]
async fn what_is_wrong_with_a_path_is_told_in_the_projects_words() {
    let server = Server::new().await;
    let project = server.create("shop", "a=1\nsrc/b=2").await;
    server.fake.link_out(&project.volume.parse().unwrap(), &path("esc"));
    let put = async |at: &str| {
        let edit = FileEdit::Put(path(at), Box::new(b"x".as_slice()));
        let error = server.workspaces.edit(&ask("put"), &slug("shop"), edit).await.unwrap_err();
        told(&error)
    };
    let hint = |text: &str| Some(text.to_owned());
    let missing = put("src/c/d/e.txt").await;
    let wanted = "directory src/c/d does not exist".to_owned();
    assert_eq!(missing, (ErrorKind::NotFound, wanted, hint("`cove files mkdir shop:/src/c/d`")));
    let below_a_file = put("a/b").await;
    let wanted = "a is a file, not a directory".to_owned();
    assert_eq!(below_a_file, (ErrorKind::Precondition, wanted, None));
    let out = put("esc/pwn").await;
    let wanted = "esc is a symbolic link that points out of the project".to_owned();
    assert_eq!(out, (ErrorKind::Precondition, wanted.clone(), None));
    let read = async |at: &str| {
        let read = server.workspaces.read(&at_moment("shop"), &path(at), None).await;
        told(&read.err().unwrap())
    };
    assert_eq!(read("esc/pwn").await, (ErrorKind::Precondition, wanted, None));
    assert_eq!(read("src").await.1, "src is a directory, not a file");
    assert_eq!(read("").await.1, "shop:/ is a directory, not a file");
    let absent = read("src/none").await;
    assert_eq!(absent, (ErrorKind::NotFound, "src/none does not exist".to_owned(), None));
    server.fake.fail_next(ErrorKind::Exhausted, false);
    let (kind, what, hint) = put("a").await;
    assert_eq!(
        (kind, what.as_str()),
        (ErrorKind::Exhausted, "the pool is full: a was not written")
    );
    assert!(hint.unwrap().contains("cove files rm shop:/PATH"));
    let slug: Slug = "shop".parse().unwrap();
    let of_all = WorkspaceError::PoolFull { slug, path: TreePath::top() };
    assert_eq!(of_all.to_string(), "the pool is full");
}

#[tokio::test]
async fn what_needs_entries_that_nobody_can_read_is_refused_and_the_rest_goes_on() {
    let server = Server::new().await;
    let shop = server.create("shop", "a=1").await;
    let lost = server.snapshot("shop", "1").await.entry;
    let kept = server.snapshot("shop", "2").await.entry;
    server.fake.lose_entries(&shop.volume.parse().unwrap(), 1);
    let unread = |error: WorkspaceError| {
        let (kind, what, _) = told(&error);
        assert_eq!(
            (kind, what.as_str()),
            (
                ErrorKind::Corrupt,
                "1 of the older entries cannot be read: the list of them is lost or damaged"
            )
        );
    };
    let of_lost = at_moment(&format!("shop@{}", lost.id));
    unread(server.workspaces.pin(&ask("p"), &of_lost, true).await.unwrap_err());
    unread(server.workspaces.undelete(&ask("u"), &of_lost).await.unwrap_err());
    unread(server.workspaces.timeline(&slug("shop"), true).await.unwrap_err());
    let of_kept = at_moment(&format!("shop@{}", kept.id));
    server.workspaces.pin(&ask("q"), &of_kept, true).await.unwrap();
    let newest = server.snapshot("shop", "3").await.entry;
    let listed = server.workspaces.timeline(&slug("shop"), false).await.unwrap().entries;
    let ids: Vec<_> = listed.into_iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [newest.id, kept.id]);
}

#[tokio::test]
async fn an_entry_in_the_trash_is_said_to_be_there() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let first = server.snapshot("shop", "1").await.entry;
    for message in ["2", "3", "4"] {
        server.snapshot("shop", message).await;
    }
    let reference = at_moment(&format!("shop@{}", first.id));
    let refused = server.workspaces.pin(&ask("p"), &reference, true).await.unwrap_err();
    let (kind, what, hint) = told(&refused);
    assert_eq!(kind, ErrorKind::NotFound);
    assert_eq!(what, format!("entry {} of shop is in the trash", first.id));
    assert_eq!(hint.unwrap(), format!("`cove undelete shop@{}`", first.id));
    let refused = server.workspaces.pin(&ask("n"), &at_moment("shop@now"), true).await.unwrap_err();
    assert_eq!(told(&refused).1, "shop@now is the present state, not an entry");
    let reference = at_moment("shop@zzz");
    let refused = server.workspaces.pin(&ask("z"), &reference, true).await.unwrap_err();
    assert_eq!(
        (told(&refused).0, told(&refused).1.as_str()),
        (ErrorKind::NotFound, "no entry of shop is zzz")
    );
}

#[tokio::test]
async fn an_entry_whose_label_was_given_away_comes_back_without_it() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let first = server.snapshot("shop", "1").await.entry;
    let label: Label = "v1".parse().unwrap();
    let reference = at_moment(&format!("shop@{}", first.id));
    server.workspaces.label(&ask("l1"), &reference, Some(&label)).await.unwrap();
    for message in ["2", "3", "4"] {
        server.snapshot("shop", message).await;
    }
    let newest = server.snapshot("shop", "5").await.entry;
    let named = at_moment(&format!("shop@{}", newest.id));
    server.workspaces.label(&ask("l2"), &named, Some(&label)).await.unwrap();
    let back = server.workspaces.undelete(&ask("u"), &reference).await.unwrap();
    assert_eq!(back.entry.unwrap().label, None);
    let said = format!("label v1 names entry {} now: {} came back without it", newest.id, first.id);
    assert_eq!(back.remarks, std::slice::from_ref(&said));
    let again = server.workspaces.undelete(&ask("u"), &reference).await.unwrap();
    assert_eq!(again.remarks, [said]);
}

#[tokio::test]
async fn a_project_in_the_trash_says_who_has_its_name() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    server.workspaces.trash(&ask("t"), &slug("shop")).await.unwrap();
    server.tick();
    let started =
        server.workspaces.create(&ask("c"), &slug("shop"), None, Source::Empty).await.unwrap();
    started.saved.await.unwrap();
    let refused = server.workspaces.undelete(&ask("u"), &at_moment("shop")).await.unwrap_err();
    let (kind, what, hint) = told(&refused);
    assert_eq!(
        (kind, what.as_str()),
        (ErrorKind::AlreadyExists, "another project is named shop now")
    );
    assert_eq!(hint.unwrap(), "free it with `cove rename shop OTHER`, then repeat this");
}

#[tokio::test]
async fn a_rescue_is_a_problem_that_its_user_solves() {
    let server = Server::new().await;
    let project = server.create("shop", "a=1").await;
    server.fake.rescue(&project.volume.parse().unwrap());
    let entry = server.workspaces.timeline(&slug("shop"), false).await.unwrap().entries.remove(0);
    let listed = server.workspaces.list(false).await.unwrap().projects.remove(0);
    let shown = server.workspaces.show(&slug("shop")).await.unwrap().project;
    for project in [listed, shown] {
        assert_eq!(project.health.state, "attention");
        let problem = &project.health.problems[0];
        assert!(
            problem.what.starts_with(&format!("entry {} holds ", entry.id)),
            "{}",
            problem.what
        );
        assert_eq!(
            (problem.since.as_str(), problem.who_acts.as_str()),
            (entry.time.as_str(), "you")
        );
        let hint = problem.hint.as_deref().unwrap();
        assert!(hint.contains(&format!("`cove restore shop {} -- PATH`", entry.id)), "{hint}");
        assert!(hint.contains(&format!("`cove rm shop@{}` dismisses it", entry.id)), "{hint}");
    }
    let reference = at_moment(&format!("shop@{}", entry.id));
    server.workspaces.trash_entry(&ask("rm"), &reference).await.unwrap();
    let dismissed = server.workspaces.show(&slug("shop")).await.unwrap().project;
    assert_eq!((dismissed.health.state.as_str(), dismissed.health.problems), ("ok", Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_that_has_just_begun_is_never_said_to_be_interrupted() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    for round in 0_u8..200 {
        let mut chance = [7; 12];
        chance[0] = round;
        let id = OperationId::new(1, chance);
        let asking = {
            let workspaces = server.workspaces.clone();
            tokio::spawn(async move {
                let asked = ask(&id.to_string());
                let started = workspaces.snapshot(&asked, &slug("shop"), None, None).await.unwrap();
                started.saved.await.unwrap();
            })
        };
        loop {
            match server.workspaces.operation(&id).await.unwrap() {
                Some(known) => {
                    assert_eq!(known.progress.step, known.progress.step.replace("interrupted", ""));
                    if known.state.as_str() == "done" {
                        break;
                    }
                }
                None => tokio::task::yield_now().await,
            }
        }
        asking.await.unwrap();
    }
}
