use cove_content::volumes::{Source, VerifyLevel, Volumes};
use cove_types::{Classify, ErrorKind};

use super::*;
use crate::workspaces::tests::{Server, ask, slug};

#[tokio::test]
async fn a_volume_whose_row_was_lost_in_a_crash_gets_it_back() {
    let server = Server::new().await;
    let shop = server.create("shop", "a=1").await;
    let row = server.database.projects().await.unwrap().remove(0);
    let half = ProjectRow { state: ProjectState::Creating, document: "{}".into(), ..row.clone() };
    server.database.put_projects(&[half]).await.unwrap();
    let workspaces = server.restarted();
    let done = workspaces.reconcile().await.unwrap();
    assert_eq!(done.written, ["shop"]);
    assert_eq!(server.database.projects().await.unwrap(), std::slice::from_ref(&row));
    server.database.delete_projects(&[row.id]).await.unwrap();
    workspaces.reconcile().await.unwrap();
    let found = workspaces.show(&slug("shop")).await.unwrap().project;
    assert_eq!((found.id, found.created_at), (shop.id, shop.created_at));
}

#[tokio::test]
async fn a_name_whose_project_was_never_made_is_free_again() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let row = server.database.projects().await.unwrap().remove(0);
    let never = ProjectRow {
        id: "prj-never".parse().unwrap(),
        slug: slug("never"),
        volume: "vol-never".parse().unwrap(),
        state: ProjectState::Creating,
        ..row
    };
    server.database.insert_projects(&[never]).await.unwrap();
    let workspaces = server.restarted();
    assert_eq!(workspaces.reconcile().await.unwrap().dropped, ["never"]);
    assert_eq!(workspaces.reconcile().await.unwrap(), Reconciled::default());
    workspaces.create(&ask("k"), &slug("never"), None, Source::Empty).await.unwrap();
}

#[tokio::test]
async fn a_row_whose_volume_is_gone_stays_and_is_named() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let row = server.database.projects().await.unwrap().remove(0);
    let gone = ProjectRow {
        id: "prj-gone".parse().unwrap(),
        slug: slug("gone"),
        volume: "vol-gone".parse().unwrap(),
        ..row
    };
    server.database.insert_projects(&[gone]).await.unwrap();
    let workspaces = server.restarted();
    assert_eq!(workspaces.reconcile().await.unwrap().missing, ["gone"]);
    let shown = workspaces.show(&slug("gone")).await.unwrap().project;
    let listed = workspaces.list(false).await.unwrap().projects;
    assert_eq!(
        listed.iter().map(|project| project.slug.as_str()).collect::<Vec<_>>(),
        ["gone", "shop"]
    );
    for project in [&shown, &listed[0]] {
        assert_eq!((project.path.as_deref(), project.health.state.as_str()), (None, "at_risk"));
        let problem = &project.health.problems[0];
        assert_eq!(problem.what, "it is not on this machine");
        let hint = "`cove recover` brings the store's projects to this machine";
        assert_eq!(problem.hint.as_deref(), Some(hint));
    }
    let checked = workspaces.verify(None, VerifyLevel::Agree).await.unwrap();
    assert_eq!(checked.checked.projects, 1, "the other one is checked all the same");
    assert_eq!(checked.problems[0].project.as_deref(), Some("gone"));
    assert_eq!(checked.problems[0].what, "project gone is not on this machine");
    let error = workspaces.timeline(&slug("gone"), false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "project gone is not on this machine");
}

#[tokio::test]
async fn a_recovery_leaves_the_name_of_a_project_that_is_being_made() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let row = server.database.projects().await.unwrap().remove(0);
    let slow = ProjectRow {
        id: "prj-slow".parse().unwrap(),
        slug: slug("slow"),
        volume: "vol-slow".parse().unwrap(),
        state: ProjectState::Creating,
        ..row
    };
    server.database.insert_projects(std::slice::from_ref(&slow)).await.unwrap();
    server.workspaces.recover(&ask("k"), true, Progress::default()).await.unwrap();
    assert_eq!(server.database.find_named(&slow.slug).await.unwrap(), Some(slow));
}

#[tokio::test]
async fn an_entry_that_was_given_up_after_a_crash_is_not_said_to_be_done() {
    let server = Server::new().await;
    let shop = server.create("shop", "a=1").await;
    let asked = ask("k");
    let started = server.workspaces.snapshot(&asked, &slug("shop"), None, None).await.unwrap();
    let (operation, reply) = (started.operation, started.saved.await.unwrap());
    let captured = cove_database::OperationUpdate {
        state: OperationState::Captured,
        result: Some(json!(reply).to_string()),
        error: None,
        at_us: 0,
        audit: None,
    };
    server.database.update_operation("owner", "k", captured).await.unwrap();
    server.fake.give_up(&shop.volume.parse().unwrap(), &reply.entry.id);
    let workspaces = server.restarted();
    workspaces.reconcile().await.unwrap();
    until(&workspaces, &operation, "failed").await;
    let error = workspaces.snapshot(&asked, &slug("shop"), None, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Precondition);
}

#[tokio::test]
async fn a_restore_is_done_also_when_the_state_before_it_was_an_entry_already() {
    let server = Server::new().await;
    let shop = server.create("shop", "a=1").await;
    let made = server.workspaces.snapshot(&ask("s"), &slug("shop"), None, None).await.unwrap();
    let at = made.saved.await.unwrap().entry.id.parse().unwrap();
    let (asked, shop_name) = (ask("k"), slug("shop"));
    let restored = server.workspaces.restore(&asked, &shop_name, &at, &[], true).await.unwrap();
    let (operation, reply) = (restored.operation, restored.saved.await.unwrap());
    let mut captured = json!(reply);
    captured["entry"] = json!({ "id": "aaaaaaaaaaaa" });
    let captured = cove_database::OperationUpdate {
        state: OperationState::Captured,
        result: Some(captured.to_string()),
        error: None,
        at_us: 0,
        audit: None,
    };
    server.database.update_operation("owner", "k", captured).await.unwrap();
    let workspaces = server.restarted();
    workspaces.reconcile().await.unwrap();
    until(&workspaces, &operation, "done").await;
    let again = workspaces.restore(&asked, &shop_name, &at, &[], true).await.unwrap();
    assert_eq!(again.saved.await.unwrap().project.id, shop.id);
}

#[tokio::test]
async fn the_ends_of_calls_are_kept_for_thirty_days() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    let day = Duration::from_secs(86_400);
    let is_known =
        async || server.database.find_operation("owner", "create-shop").await.unwrap().is_some();
    server.pass(day * 29);
    server.workspaces.inner().forget_operations().await.unwrap();
    assert!(is_known().await);
    server.pass(day * 2);
    server.workspaces.inner().forget_operations().await.unwrap();
    assert!(!is_known().await);
}

#[tokio::test]
async fn a_rename_whose_row_was_not_written_is_finished() {
    let server = Server::new().await;
    let shop = server.create("shop", "a=1").await;
    server.fake.rewrite(&shop.volume.parse().unwrap(), |document| {
        document.slug = slug("store");
        document.name = "store".into();
    });
    let workspaces = server.restarted();
    assert_eq!(workspaces.reconcile().await.unwrap().written, ["store"]);
    assert_eq!(workspaces.show(&slug("store")).await.unwrap().project.name, "store");
}

#[tokio::test]
async fn two_projects_that_swapped_their_names_are_both_written() {
    let server = Server::new().await;
    let shop = server.create("shop", "a=1").await;
    let blog = server.create("blog", "a=1").await;
    for (project, name) in [(&shop, "blog"), (&blog, "shop")] {
        server.fake.rewrite(&project.volume.parse().unwrap(), |document| {
            document.slug = slug(name);
        });
    }
    let workspaces = server.restarted();
    workspaces.reconcile().await.unwrap();
    assert_eq!(workspaces.show(&slug("blog")).await.unwrap().project.id, shop.id);
    assert_eq!(workspaces.show(&slug("shop")).await.unwrap().project.id, blog.id);
}

#[tokio::test]
async fn what_was_being_saved_at_a_crash_is_done_after_it() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    server.fake.let_save(false);
    let asked = ask("k");
    let started = server.workspaces.snapshot(&asked, &slug("shop"), None, None).await.unwrap();
    let workspaces = server.restarted();
    until(&workspaces, &started.operation, "captured").await;
    workspaces.reconcile().await.unwrap();
    server.fake.let_save(true);
    until(&workspaces, &started.operation, "done").await;
    let again = workspaces.snapshot(&asked, &slug("shop"), None, None).await.unwrap();
    assert_eq!(again.captured.entry.id, started.captured.entry.id);
    assert!(again.captured.entry.saved_ms.is_some());
}

async fn until(workspaces: &Workspaces, id: &cove_types::OperationId, state: &str) {
    let deadline = std::time::Duration::from_secs(60);
    let reached = tokio::time::timeout(deadline, async {
        loop {
            let known = workspaces.operation(id).await.unwrap();
            if known.is_some_and(|known| known.state.as_str() == state) {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    reached.await.unwrap_or_else(|_| panic!("operation {id} never was {state}"));
}

#[tokio::test]
async fn a_lost_machine_has_its_projects_back_and_names_what_is_lost() {
    let old = Server::new().await;
    let shop = old.create("shop", "a=1").await;
    old.create("blog", "a=1").await;
    old.workspaces.trash(&ask("t"), &slug("blog")).await.unwrap();
    let new = Server::new().await;
    let workspaces = crate::Workspaces::new(
        std::sync::Arc::new(old.fake.clone()),
        new.database.clone(),
        cove_env::Env::system(),
        crate::Options { keep: 5, node: "n2".parse().unwrap(), saved_to: "this_disk".into() },
    );
    old.fake.lose("pack p1", "it is missing");
    let reply = workspaces.recover(&ask("k"), false, Progress::default()).await.unwrap();
    let ids: Vec<_> = reply.projects.iter().map(|project| project.id.as_str()).collect();
    assert_eq!((ids, reply.lost.len()), (vec![shop.id.as_str()], 1));
    assert_eq!(workspaces.list(true).await.unwrap().projects[0].slug, "blog");
}

#[tokio::test]
async fn what_came_back_is_used_while_lost_projects_are_looked_for() {
    let server = Server::new().await;
    let shop = server.create("shop", "a=1").await;
    let blog = server.create("blog", "a=1").await;
    let rows = server.database.projects().await.unwrap();
    let ids: Vec<_> = rows.into_iter().map(|row| row.id).collect();
    server.database.delete_projects(&ids).await.unwrap();
    server.fake.lose_head(&blog.volume.parse().unwrap());
    server.fake.let_look(false);
    let workspaces = server.workspaces.clone();
    let recovering = tokio::spawn(async move {
        workspaces.recover(&ask("k"), true, Progress::default()).await.unwrap()
    });
    let looking = async {
        loop {
            let listed = server.workspaces.list(false).await.unwrap();
            if listed.remarks == [wire::LOOKING_FOR_LOST] {
                return listed.projects;
            }
            tokio::task::yield_now().await;
        }
    };
    let there = tokio::time::timeout(std::time::Duration::from_secs(30), looking).await.unwrap();
    let slugs: Vec<_> = there.iter().map(|project| project.slug.as_str()).collect();
    assert_eq!(slugs, ["shop"]);
    server.workspaces.rename(&ask("r"), &slug("shop"), &slug("store")).await.unwrap();
    assert!(!recovering.is_finished());
    server.fake.let_look(true);
    let reply = recovering.await.unwrap();
    let back: Vec<_> = reply.projects.iter().map(|project| project.slug.as_str()).collect();
    assert_eq!(back, ["blog", "store"], "as they are called at its end");
    assert_eq!(reply.projects[1].id, shop.id);
    let [rebuilt] = reply.rebuilt.as_slice() else { panic!("{:?}", reply.rebuilt) };
    assert_eq!(rebuilt.project, "blog");
    assert!(server.workspaces.list(false).await.unwrap().remarks.is_empty());
}

#[tokio::test]
async fn of_two_recovered_projects_with_one_name_the_younger_gets_a_number_for_good() {
    let server = Server::new().await;
    let first = server.create("shop", "a=1").await;
    let second = server.create("blog", "a=1").await;
    server.fake.rewrite(&second.volume.parse().unwrap(), |document| {
        document.slug = slug("shop");
        document.name = "shop".into();
    });
    let reply = server.workspaces.recover(&ask("k"), true, Progress::default()).await.unwrap();
    let named: Vec<_> =
        reply.projects.iter().map(|project| (project.slug.as_str(), project.id.as_str())).collect();
    assert_eq!(named, [("shop", first.id.as_str()), ("shop-2", second.id.as_str())]);
    assert_eq!(reply.lost[0].what, "the name of a project shop, which is shop-2 now");
    let again = server.workspaces.recover(&ask("k2"), true, Progress::default()).await.unwrap();
    assert_eq!(again.lost, []);
}

/// What fails, and whether it had taken effect when it did.
const FAILURES: [(ErrorKind, bool); 4] = [
    (ErrorKind::Unavailable, false),
    (ErrorKind::Unavailable, true),
    (ErrorKind::TimedOut, true),
    (ErrorKind::Internal, true),
];

#[tokio::test]
async fn a_create_completes_under_its_key_after_any_failure_and_a_crash() {
    for (kind, took_effect) in FAILURES {
        let server = Server::new().await;
        server.fake.fail_next(kind, took_effect);
        let (asked, shop) = (ask("k"), slug("shop"));
        server.workspaces.create(&asked, &shop, None, Source::Empty).await.unwrap_err();
        let workspaces = server.restarted();
        workspaces.reconcile().await.unwrap();
        assert_eq!(server.database.projects().await.unwrap().len(), server.fake.count());
        let again = workspaces.create(&asked, &shop, None, Source::Empty).await.unwrap();
        again.saved.await.unwrap();
        let listed = workspaces.list(false).await.unwrap().projects;
        assert_eq!((listed.len(), server.fake.count()), (1, 1), "{kind:?} {took_effect}");
    }
}

#[tokio::test]
async fn a_fork_completes_under_its_key_after_any_failure_and_a_crash() {
    for (kind, took_effect) in FAILURES {
        let server = Server::new().await;
        server.create("shop", "a=1").await;
        server.fake.fail_next(kind, took_effect);
        let (asked, source) = (ask("k"), "shop".parse().unwrap());
        server.workspaces.fork(&asked, &source, None, Some(3)).await.unwrap_err();
        let workspaces = server.restarted();
        workspaces.reconcile().await.unwrap();
        assert_eq!(server.database.projects().await.unwrap().len(), server.fake.count());
        let again = workspaces.fork(&asked, &source, None, Some(3)).await.unwrap();
        let names: Vec<_> =
            again.saved.await.unwrap().projects.into_iter().map(|project| project.slug).collect();
        assert_eq!(names, ["shop-1", "shop-2", "shop-3"], "{kind:?} {took_effect}");
        assert_eq!(server.fake.count(), 4);
    }
}

#[tokio::test]
async fn a_rename_completes_under_its_key_after_any_failure_and_a_crash() {
    for (kind, took_effect) in FAILURES {
        let server = Server::new().await;
        server.create("shop", "a=1").await;
        server.fake.fail_next(kind, took_effect);
        let (asked, shop, store) = (ask("k"), slug("shop"), slug("store"));
        server.workspaces.rename(&asked, &shop, &store).await.unwrap_err();
        let workspaces = server.restarted();
        workspaces.reconcile().await.unwrap();
        let again = workspaces.rename(&asked, &shop, &store).await.unwrap();
        assert_eq!(again.project.slug, "store", "{kind:?} {took_effect}");
    }
}

#[tokio::test]
async fn an_old_key_does_not_bring_an_old_state_back() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    server.fake.fail_next(ErrorKind::TimedOut, true);
    let (shop, store) = (slug("shop"), slug("store"));
    server.workspaces.rename(&ask("k"), &shop, &store).await.unwrap_err();
    let workspaces = server.restarted();
    workspaces.reconcile().await.unwrap();
    workspaces.rename(&ask("k2"), &store, &slug("third")).await.unwrap();
    let again = workspaces.rename(&ask("k"), &shop, &store).await.unwrap();
    assert_eq!(again.project.slug, "third");
    assert_eq!(workspaces.list(false).await.unwrap().projects[0].slug, "third");
}

#[tokio::test]
async fn while_a_recovery_runs_nobody_is_told_that_there_is_nothing() {
    let server = Server::new().await;
    let progress = Progress::default();
    let running = server.workspaces.inner().tell_of_recovery(progress.clone());
    let remarks = async || server.workspaces.list(false).await.unwrap().remarks;
    assert_eq!(remarks().await, ["recovering"]);
    progress.update(|progress| {
        progress.done_files = 1;
        progress.total_files = Some(3);
    });
    assert_eq!(remarks().await, ["recovering, 1 of 3 projects"]);
    let error = server.workspaces.timeline(&slug("shop"), false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = "project shop is not here yet: recovering, 1 of 3 projects";
    assert_eq!(error.to_string(), text);
    progress.step(wire::LOOKING_FOR_LOST);
    progress.update(|progress| {
        progress.done_files = 640;
        progress.total_files = Some(9_000);
    });
    assert_eq!(remarks().await, ["looking for lost projects, 640 of 9000 packs"]);
    drop(running);
    assert!(remarks().await.is_empty());
    let error = server.workspaces.show(&slug("shop")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_takes_effect_after_a_start_is_in_the_row_although_nobody_waits_for_it() {
    let server = Server::new().await;
    server.fake.let_save(false);
    server.workspaces.create(&ask("k"), &slug("shop"), None, Source::Empty).await.unwrap();
    let volume = server.database.projects().await.unwrap().remove(0).volume;
    let workspaces = server.restarted();
    workspaces.reconcile().await.unwrap();
    let call = Call {
        operation: workspaces.inner().env.operation_id(u32::MAX),
        principal: "who had asked".into(),
        request: [1; 8],
        progress: Progress::default(),
    };
    server.fake.set_trashed(call, volume.clone(), true).await.unwrap();
    server.fake.let_save(true);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let row = server.database.find_volume(&volume).await.unwrap().unwrap();
        if row.state == ProjectState::Trashed {
            assert!(row.trashed_us.is_some());
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the row says that it is live");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(workspaces.list(false).await.unwrap().projects.len(), 0);
}

#[tokio::test]
async fn what_a_stop_left_captured_is_no_failure_and_is_done_after_the_next_start() {
    let server = Server::new().await;
    server.create("shop", "a=1").await;
    server.fake.let_save(false);
    let asked = ask("k");
    let started = server.workspaces.snapshot(&asked, &slug("shop"), None, None).await.unwrap();
    let operation = started.operation;
    server.fake.stop(true);
    let told = started.saved.await.unwrap_err();
    assert_eq!(
        (told.kind(), told.to_string()),
        (ErrorKind::Unavailable, "cove is stopping".into())
    );
    let state = server.workspaces.operation(&operation).await.unwrap().unwrap().state;
    assert_eq!(state.as_str(), "captured", "it has not failed");

    server.fake.stop(false);
    let workspaces = server.restarted();
    workspaces.reconcile().await.unwrap();
    server.fake.let_save(true);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while workspaces.operation(&operation).await.unwrap().unwrap().state.as_str() != "done" {
        assert!(tokio::time::Instant::now() < deadline, "it is never done");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
