use cove_types::wire;
use cove_types::{Consistency, EntryKind, EntryState};
use expect_test::{Expect, expect};

use super::*;

fn now() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

fn shop() -> Project {
    Project {
        name: "shop".into(),
        slug: "shop".into(),
        id: "prj-a".into(),
        volume: "vol-a".into(),
        path: Some("/home/ann/.local/share/cove/pool/volumes/vol-a/files".into()),
        forked_from: None,
        durability: Durability::Saved,
        saved_at: Some("2026-11-25T11:59:56Z".into()),
        saved_to: "s3://bucket/cove".into(),
        unsaved_bytes: Some(0),
        bytes: wire::Bytes { logical: 390_000_000, unique: 1_200_000, shared: 388_000_000 },
        quota_bytes: None,
        health: wire::Health {
            state: "ok".into(),
            node: "local".into(),
            saved_at: Some("2026-11-25T11:59:56Z".into()),
            unsaved_bytes: Some(0),
            store: "reachable".into(),
            last_verify: None,
            not_captured: Vec::new(),
            not_captured_count: 0,
            problems: Vec::new(),
        },
        state: "live".into(),
        created_at: "2026-11-22T12:00:00Z".into(),
        trashed_at: None,
        seq: 7,
        entries: 2,
    }
}

#[test]
fn a_project_that_was_made_from_packs_says_from_which_and_from_when() {
    let of = wire::Rebuilt {
        project: "shop-2".into(),
        volume: "vol-b".into(),
        lost_volume: "vol-a".into(),
        recorded_at: "2026-11-25T11:00:00Z".into(),
    };
    let line = "project shop-2 was made from the packs of volume vol-a, recorded 1 h ago";
    assert_eq!(rebuilt(&of, now()), line);
    let again = Rebuilt { volume: "vol-a".into(), ..of };
    let line = "project shop-2: its head was lost, and was put again as it was saved 1 h ago";
    assert_eq!(rebuilt(&again, now()), line);
}

fn entry_of(id: &str) -> Entry {
    Entry {
        id: id.into(),
        kind: EntryKind::Manual,
        message: Some("before the refactor".into()),
        label: Some("v1".into()),
        author: "ann".into(),
        time: "2026-11-25T11:57:00Z".into(),
        pinned: true,
        consistency: Consistency::Instant,
        durability: Durability::Saved,
        captured_ms: 4,
        saved_ms: Some(60),
        tree: None,
        tree_entries: Some(12_000),
        logical_bytes: Some(390_000_000),
        volume_snapshot: None,
        state: EntryState::Live,
    }
}

fn check(text: &str, expected: &Expect) {
    expected.assert_eq(text);
}

#[test]
fn a_size_has_two_or_three_digits() {
    let sizes = [0, 999, 1_000, 1_234_567, 99_949_999, 99_950_000, 999_949_999, 999_950_000];
    let shown: Vec<String> = sizes.into_iter().map(size).collect();
    assert_eq!(
        shown,
        ["0 B", "999 B", "1.0 kB", "1.2 MB", "99.9 MB", "100 MB", "1.0 GB", "1.0 GB"]
    );
}

#[test]
fn an_age_is_one_unit() {
    let ago = |text: &str| age(text, now());
    assert_eq!(ago("2026-11-25T11:59:56Z"), "4 s ago");
    assert_eq!(ago("2026-11-25T11:57:00Z"), "3 min ago");
    assert_eq!(ago("2026-11-25T09:57:00Z"), "2 h ago");
    assert_eq!(ago("2026-11-24T09:57:00Z"), "1 day ago");
    assert_eq!(ago("2024-02-29T09:57:00Z"), "2024-02-29");
    // Clocks differ by little; what a file says of itself may be any time.
    assert_eq!(ago("2026-11-25T12:00:09Z"), "just now");
    assert_eq!(ago("2027-01-01T00:00:00Z"), "2027-01-01");
}

#[test]
fn the_list_of_projects_is_a_table() {
    let mut other = shop();
    other.slug = "shop-intake".into();
    other.durability = Durability::OnThisNode;
    other.unsaved_bytes = Some(12_000);
    other.bytes.logical = 0;
    check(
        &projects(&[shop(), other], now()),
        &expect![[r#"
            NAME         SAVED              SIZE  ENTRIES  HEALTH  MADE
            shop         4 s ago          390 MB        2  ok      3 days ago
            shop-intake  12.0 kB not yet     0 B        2  ok      3 days ago
        "#]],
    );
}

#[test]
fn a_project_shows_where_it_lives_and_what_is_saved() {
    check(
        &project(&shop(), now()),
        &expect![[r#"
        shop
          files        /home/ann/.local/share/cove/pool/volumes/vol-a/files
          saved        4 s ago, to s3://bucket/cove
          size         390 MB; on disk 1.2 MB its own, 388 MB shared or saved by compression
          timeline     2 entries
          made         3 days ago
          id           prj-a, vol-a
          health       ok
    "#]],
    );
}

#[test]
fn a_sick_project_shows_what_a_person_can_do() {
    let mut sick = shop();
    sick.durability = Durability::OnThisNode;
    sick.saved_at = None;
    sick.unsaved_bytes = None;
    sick.quota_bytes = Some(20 << 30);
    sick.saved_to = "this_disk".into();
    sick.health.state = "at_risk".into();
    sick.health.problems.push(wire::Problem {
        what: "the store refuses \x1b[31mwrites".into(),
        since: "2026-11-25T11:00:00Z".into(),
        who_acts: "operator".into(),
        hint: Some("check the key's rights".into()),
    });
    sick.health.not_captured_count = 3;
    sick.health
        .not_captured
        .push(wire::NotCaptured { path: "dev/tty\\x0a".into(), what: "device".into() });
    check(
        &project(&sick, now()),
        &expect![[r#"
            shop
              files        /home/ann/.local/share/cove/pool/volumes/vol-a/files
              saved        not saved yet; will be on this disk only
              size         390 MB; on disk 1.2 MB its own, 388 MB shared or saved by compression
              quota        1.2 MB of 21.5 GB written
              timeline     2 entries
              made         3 days ago
              id           prj-a, vol-a
              health       at risk
                the store refuses \x1b[31mwrites (since 1 h ago)
                  hint: check the key's rights
              not captured 3 paths
                dev/tty\x0a: device
                and 2 more
        "#]],
    );
}

#[test]
fn a_timeline_is_a_table_newest_first() {
    let mut waiting = entry_of("bbbbbbbbbbbb");
    waiting.durability = Durability::OnThisNode;
    waiting.saved_ms = None;
    waiting.label = None;
    waiting.pinned = false;
    waiting.kind = EntryKind::BeforeRestore;
    waiting.message = Some("with \u{202e} and \n".into());
    check(
        &timeline(&[waiting, entry_of("aaaaaaaaaaaa")], now(), None),
        &expect![[r#"
            ENTRY         WHEN       KIND            SAVED      SIZE  LABEL  PINNED  MESSAGE
            bbbbbbbbbbbb  3 min ago  before-restore  not yet  390 MB                 with \xe2\x80\xae and \x0a
            aaaaaaaaaaaa  3 min ago  manual          yes      390 MB  v1     yes     before the refactor
        "#]],
    );
}

#[test]
fn an_entry_is_one_line_of_a_terminal_whatever_its_message() {
    let mut wide = entry_of("bbbbbbbbbbbb");
    wide.message = Some("名前が長い".repeat(20));
    let mut long = entry_of("cccccccccccc");
    long.message = Some("word ".repeat(40));
    let entries = [wide, long, entry_of("aaaaaaaaaaaa")];
    check(
        &timeline(&entries, now(), Some(100)),
        &expect![[r#"
        ENTRY         WHEN       KIND    SAVED    SIZE  LABEL  PINNED  MESSAGE
        bbbbbbbbbbbb  3 min ago  manual  yes    390 MB  v1     yes     名前が長い名前が長い名前が長い名前…
        cccccccccccc  3 min ago  manual  yes    390 MB  v1     yes     word word word word word word word…
        aaaaaaaaaaaa  3 min ago  manual  yes    390 MB  v1     yes     before the refactor
    "#]],
    );
    for width in [80, 120, 200] {
        let shown = timeline(&entries, now(), Some(width));
        assert!(shown.lines().all(|line| columns(line) <= width + 1), "{width}:\n{shown}");
    }
}

#[test]
fn a_column_that_says_nothing_is_left_out() {
    let mut plain = entry_of("aaaaaaaaaaaa");
    plain.pinned = false;
    plain.message = None;
    let trashed = Entry { state: EntryState::Trashed, ..plain.clone() };
    let header = |entries: &[Entry]| {
        let text = timeline(entries, now(), None);
        text.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(header(std::slice::from_ref(&plain)), "ENTRY WHEN KIND SAVED SIZE LABEL");
    assert_eq!(header(&[plain, trashed]), "ENTRY WHEN KIND SAVED SIZE LABEL STATE");
}

#[test]
fn a_state_is_saved_somewhere_or_not_yet() {
    let mut made = shop();
    assert_eq!(state(&made), "saved to s3://bucket/cove");
    made.saved_to = "this_disk".into();
    assert_eq!(state(&made), "saved on this disk only");
    made.durability = Durability::OnThisNode;
    assert_eq!(state(&made), "on this node, not saved yet (`cove wait shop` waits)");
}

#[test]
fn an_entry_says_how_soon_it_was_safe() {
    let saved = entry_of("aaaaaaaaaaaa");
    assert_eq!(
        entry(&saved, "s3://bucket/cove"),
        "entry aaaaaaaaaaaa: captured on this node in 4 ms, saved to s3://bucket/cove in 60 ms"
    );
    let captured =
        Entry { durability: Durability::OnThisNode, saved_ms: None, captured_ms: 1_250, ..saved };
    assert_eq!(
        entry(&captured, "this_disk"),
        "entry aaaaaaaaaaaa: captured on this node in 1.2 s, not saved yet"
    );
}

#[test]
fn what_rolled_off_is_named_with_the_way_back() {
    check(
        &rolled_off("shop", &[entry_of("aaaaaaaaaaaa")]).join("\n"),
        &expect!["rolled off: aaaaaaaaaaaa (v1); back with `cove undelete shop@aaaaaaaaaaaa`"],
    );
    let mut long = entry_of("aaaaaaaaaaaa");
    (long.label, long.message) = (None, Some("a message of more than thirty characters".into()));
    check(
        &rolled_off("shop", &[long]).join("\n"),
        &expect![
            "rolled off: aaaaaaaaaaaa (a message of more than thirty…); back with `cove undelete shop@aaaaaaaaaaaa`"
        ],
    );
}

#[test]
fn health_says_when_the_project_was_last_verified_and_what_was_found() {
    let mut shop = shop();
    for (problems, line) in
        [(0, "  health       ok; verified 3 min ago: no problems\n"), (1, ": 1 problem\n")]
    {
        let at = "2026-11-25T11:57:00Z".into();
        shop.health.last_verify = Some(wire::LastVerify { at, problems });
        let shown = project(&shop, now());
        assert!(shown.contains(line), "{shown}");
    }
}

fn differences() -> Vec<Change> {
    let change = |path: &str, change: ChangeKind| Change {
        path: path.into(),
        change,
        from: None,
        bytes_before: None,
        bytes_after: None,
        mode_before: None,
        mode_after: None,
    };
    vec![
        Change { bytes_after: Some(10), ..change("a", ChangeKind::Added) },
        Change { bytes_before: Some(1_000), ..change("b", ChangeKind::Removed) },
        Change {
            bytes_before: Some(1_000),
            bytes_after: Some(20_000),
            ..change("src/c.ts", ChangeKind::Modified)
        },
        Change { from: Some("d".into()), ..change("e", ChangeKind::Renamed) },
        Change {
            mode_before: Some("0644".into()),
            mode_after: Some("0755".into()),
            ..change("run", ChangeKind::Metadata)
        },
        change("xa", ChangeKind::Metadata),
    ]
}

#[test]
fn a_difference_has_a_letter_and_a_path_a_line() {
    check(
        &changes(&differences()),
        &expect![[r#"
        A a
        D b
        M src/c.ts
        R d -> e
        m run  (mode 0644 -> 0755)
        m xa  (attributes)
    "#]],
    );
    check(
        &name_status(&differences()),
        &expect![[r#"
        A	a
        D	b
        M	src/c.ts
        R	d	e
        m	run
        m	xa
    "#]],
    );
    check(
        &stat(&differences()),
        &expect![[r#"
        A  a                      10 B
        D  b                    1.0 kB
        M  src/c.ts  1.0 kB -> 20.0 kB
        R  d -> e
        m  run
        m  xa
        1 added, 1 removed, 1 modified, 1 renamed, 2 with other mode or attributes
    "#]],
    );
}

#[test]
fn files_are_listed_with_kind_mode_size_and_age() {
    let file = |path: &str, kind: &str, target: Option<&str>| File {
        path: path.into(),
        kind: kind.into(),
        bytes: 1_234,
        mode: "0644".into(),
        modified: "2026-11-25T11:59:00Z".into(),
        target: target.map(str::to_owned),
    };
    let listing = [
        file("bin", "directory", None),
        file("bin/x\\x1b", "file", None),
        file("link", "symlink", Some("../out")),
    ];
    check(
        &files(&listing, now()),
        &expect![[r#"
        directory  0644          1 min ago  bin/
        file       0644  1.2 kB  1 min ago  bin/x\x1b
        symlink    0644          1 min ago  link -> ../out
    "#]],
    );
}

#[test]
fn a_check_says_what_was_looked_at_and_what_is_wrong() {
    let mut reply = VerifyReply {
        problems: vec![wire::VerifyProblem {
            project: Some("shop".into()),
            entry: Some("aaaaaaaaaaaa".into()),
            paths: vec!["src/a".into()],
            nearest_good: Some("bbbbbbbbbbbb".into()),
            ..wire::VerifyProblem::new("pack 00ff is damaged: pack is damaged: its footer is cut")
        }],
        checked: wire::Checked {
            projects: 1,
            volumes: 0,
            entries: 3,
            chunks: 100,
            packs_read: 2,
            bytes_read: 64_000_000,
        },
        not_captured: vec![wire::NotCaptured { path: "run.sock".into(), what: "device".into() }],
    };
    check(
        &verify(&reply, 2),
        &expect![[r#"
            shop@aaaaaaaaaaaa: pack 00ff is damaged: its footer is cut
                src/a
                the nearest entry that is whole is bbbbbbbbbbbb
            not captured: run.sock: device
            checked 1 project, 3 states, 100 chunks, 2 packs read (64.0 MB): 1 problem
        "#]],
    );
    reply.problems[0].nearest_good = None;
    let line = "\n    no entry of it is whole\n";
    assert!(verify(&reply, 1).contains(line));
    assert!(!verify(&reply, 0).contains(line), "nothing is known of the others");
    (reply.problems[0].project, reply.problems[0].volume) = (None, Some("vol-a".into()));
    (reply.checked.projects, reply.checked.volumes) = (0, 2);
    let told = verify(&reply, 0);
    assert!(told.starts_with("vol-a@aaaaaaaaaaaa: pack 00ff"), "{told}");
    assert!(told.contains("checked 0 projects, 2 volumes of no project, 3 states"), "{told}");
    assert!(not_verified(0).is_some() && not_verified(1).is_some() && not_verified(2).is_none());
}

#[test]
fn what_keeps_a_project_from_being_saved_is_said_without_the_object_that_was_tried() {
    let why = "the directory of the store is not there: is its disk mounted?";
    let chain = |id| {
        format!(
            "not saved: failed to put a pack: the store did not say whether object packs/{id} was written: {why}"
        )
    };
    assert_eq!(in_short(&chain("00")), format!("not saved: {why}"));
    assert_eq!(in_short(&chain("00")), in_short(&chain("ff")), "it is told once");
    let away = "the store does not answer: failed to read object store: timed out";
    assert_eq!(in_short(away), "the store does not answer: timed out");
    for whole in ["failed to read object a: why", "not saved: failed to read object a", "the pool"]
    {
        assert_eq!(in_short(whole), whole);
    }
    let refused = "not saved: the store does not allow writing object a: 403";
    assert_eq!(in_short(refused), refused, "which object it was tells more than the refusal");
}

#[test]
fn a_volume_that_is_saved_on_this_disk_says_so() {
    let volume = |saved_to: &str, durability| Volume {
        id: "vol-a".into(),
        name: "data".into(),
        project: None,
        node: "n1".into(),
        path: Some("/pool/volumes/vol-a/files".into()),
        quota_bytes: None,
        bytes: wire::Bytes { logical: 1_000, unique: 1_000, shared: 0 },
        durability,
        saved_at: Some("2026-11-25T11:59:56Z".into()),
        saved_to: saved_to.into(),
        unsaved_bytes: None,
        health: wire::VolumeHealth { state: "ok".into(), problems: Vec::new() },
        snapshots: 0,
        labels: std::collections::BTreeMap::new(),
        parameters: std::collections::BTreeMap::new(),
        source: None,
        created_at: "2026-11-22T12:00:00Z".into(),
        seq: 1,
        epoch: 1,
    };
    let shown = |saved_to: &str, durability| {
        let volume = volume(saved_to, durability);
        let saved = super::volume(&volume, now());
        let saved = saved.lines().find_map(|line| line.strip_prefix("  saved        ")).unwrap();
        let listed = super::volumes(&[volume], now());
        (saved.to_owned(), listed.contains("on this disk only"))
    };
    let saved = Durability::Saved;
    assert_eq!(shown("this_disk", saved), ("4 s ago, on this disk only".into(), true));
    assert_eq!(shown("s3://b/p", saved), ("4 s ago, to s3://b/p".into(), false));
    assert_eq!(shown("", saved), ("4 s ago".into(), false));
    let unsaved = shown("this_disk", Durability::OnThisNode);
    assert_eq!(unsaved.0, "not saved yet; before that 4 s ago, on this disk only");
}

#[test]
fn only_what_came_back_is_called_recovered() {
    let said = |[back, volumes_back]: [u64; 2], [here, volumes_here]: [u64; 2]| {
        let number = |projects, volumes| Number { projects, volumes };
        recovered(number(back, volumes_back), number(here, volumes_here))
    };
    assert_eq!(said([0, 0], [18, 0]), "nothing to recover: 18 projects are here already");
    assert_eq!(said([0, 0], [1, 0]), "nothing to recover: 1 project is here already");
    assert_eq!(said([0, 0], [0, 0]), "nothing to recover: the store names no project");
    assert_eq!(said([11, 0], [0, 0]), "11 projects recovered");
    assert_eq!(said([1, 0], [2, 0]), "1 project recovered, 2 are here already");
    assert_eq!(said([0, 2], [0, 0]), "2 volumes recovered");
    assert_eq!(said([1, 2], [0, 0]), "1 project and 2 volumes recovered");
    assert_eq!(said([1, 0], [0, 1]), "1 project recovered, 1 volume is here already");
    assert_eq!(
        said([0, 0], [2, 1]),
        "nothing to recover: 2 projects and 1 volume are here already"
    );
}

#[test]
fn doctor_names_each_check_and_the_way_out() {
    let all = [
        Check { name: "pool".into(), ok: true, what: "4.3 GB, 2.1 GB free".into(), hint: None },
        Check {
            name: "object store".into(),
            ok: false,
            what: "does not answer".into(),
            hint: Some("is the network up?".into()),
        },
    ];
    check(
        &checks(&all),
        &expect![[r#"
        ok    pool          4.3 GB, 2.1 GB free
        FAIL  object store  does not answer
              hint: is the network up?
    "#]],
    );
}
