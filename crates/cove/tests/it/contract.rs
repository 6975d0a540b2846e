//! What scripts and programs rely on, point by point.

use std::fs::{self, File};
use std::io::Write;

use serde_json::Value;

use crate::harness::{Cove, Objects, Settings, list, poll, text, texts};

#[test]
fn a_name_obeys_the_law_is_known_and_is_free() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let long = "a".repeat(41);
    for name in ["Shop", "-shop", "shop-", "sh--op", "sh.op", "sh op", "", "süß", &long] {
        cove.refuses(2, &["new", "--", name]);
    }
    cove.json(&["new", &"a".repeat(40)]);
    cove.json(&["new", "shop"]);
    cove.json(&["new", "other"]);

    for arguments in [
        &["show", "nothing"][..],
        &["path", "nothing"],
        &["timeline", "nothing"],
        &["snapshot", "nothing"],
        &["fork", "nothing"],
        &["restore", "nothing", "~1"],
        &["rename", "nothing", "new"],
        &["rm", "nothing"],
        &["undelete", "nothing"],
        &["verify", "nothing"],
        &["wait", "nothing"],
        &["files", "ls", "nothing:/"],
        &["files", "cat", "nothing:/a"],
        &["diff", "nothing@~1..nothing"],
        &["pin", "nothing@~1"],
    ] {
        cove.refuses(3, arguments);
    }

    cove.refuses(4, &["new", "shop"]);
    cove.refuses(4, &["new", "shop", "--from", "/etc/hostname/nothing"]);
    cove.refuses(4, &["rename", "shop", "other"]);
    cove.refuses(4, &["fork", "shop", "--as", "other"]);
    assert_eq!(list(&cove.json(&["ls"])["projects"]).len(), 3, "nothing was made");

    // A name in the trash is free, and is taken when its project comes back.
    let trashed = text(&cove.json(&["rm", "other"])["project"]["id"]);
    let fresh = text(&cove.json(&["new", "other"])["project"]["id"]);
    assert_ne!(trashed, fresh);
    cove.refuses(4, &["undelete", "other"]);
    cove.json(&["rename", "other", "another"]);
    assert_eq!(cove.json(&["undelete", "other"])["project"]["id"], trashed.as_str());
}

#[test]
fn a_moment_is_an_id_a_prefix_a_label_a_number_or_now() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let put = |bytes: &str| {
        cove.cove_with(&["files", "put", "shop:/a"], bytes.as_bytes()).success();
    };
    let read = |moment: &str| cove.text(&["files", "cat", &format!("shop@{moment}:/a")]);
    put("one");
    let one = cove.snapshot("shop", "one");
    put("two");
    let two = text(&cove.json(&["snapshot", "shop", "--label", "v2"])["entry"]["id"]);
    put("three");

    assert_eq!(read("now"), "three");
    assert_eq!((read(&one), read(&two)), ("one".into(), "two".into()));
    assert_eq!((read(&one[..5]), read(&two[..11])), ("one".into(), "two".into()));
    assert_eq!((read("~1"), read("~2"), read("v2")), ("two".into(), "one".into(), "two".into()));
    for unknown in ["~3", "v3", "nothing", "zzzzzzzzzzzz"] {
        cove.refuses(3, &["files", "cat", &format!("shop@{unknown}:/a")]);
    }
    for unlawful in ["", "~0", "~x", "a b", "../b", &"a".repeat(65)] {
        cove.refuses(2, &["files", "cat", &format!("shop@{unlawful}:/a")]);
    }

    // Labels are unique in a project, and `now` is none.
    cove.refuses(2, &["label", "shop@~2", "now"]);
    cove.refuses(2, &["label", "shop@~2", "not a label"]);
    cove.refuses(4, &["label", "shop@~2", "v2"]);
    cove.refuses(4, &["snapshot", "shop", "--label", "v2"]);
    assert_eq!(cove.timeline("shop").len(), 2, "a snapshot that was refused is none");
    cove.json(&["label", "shop@v2", "latest.of_all-1"]);
    cove.refuses(3, &["files", "cat", "shop@v2:/a"]);
    assert_eq!(read("latest.of_all-1"), "two");
    let removed = cove.json(&["label", &format!("shop@{two}"), "--remove"]);
    assert_eq!(removed["entry"]["label"], Value::Null);
    // Where an entry must be, now is none.
    cove.refuses(2, &["pin", "shop"]);
    cove.refuses(2, &["pin", "shop@now"]);
    // An entry does not change.
    cove.refuses(2, &["files", "rm", &format!("shop@{one}:/a")]);
    cove.refuses(2, &["files", "put", &format!("shop@{one}:/a")]);
}

#[test]
fn forks_take_free_names_and_all_of_them_or_none() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    cove.cove_with(&["files", "put", "shop:/a"], b"a").success();
    let names = |value: &Value| texts(&value["projects"], "slug");
    assert_eq!(cove.json(&["fork", "shop"])["project"]["slug"], "shop-1");
    assert_eq!(names(&cove.json(&["fork", "shop", "--count", "2"])), ["shop-2", "shop-3"]);
    assert_eq!(names(&cove.json(&["fork", "shop", "--as", "x", "--count", "2"])), ["x-1", "x-2"]);
    let before = names(&cove.json(&["ls"]));
    cove.refuses(4, &["fork", "shop", "--as", "x", "--count", "3"]);
    cove.json(&["new", "y-3"]);
    cove.refuses(4, &["fork", "shop", "--as", "y", "--count", "3"]);
    let after = names(&cove.json(&["ls"]));
    assert_eq!(after.len(), before.len() + 1, "{after:?}");
    cove.refuses(2, &["fork", "shop", "--as", &"a".repeat(40), "--count", "2"]);
    cove.refuses(3, &["fork", "shop@~1"]);
    for name in ["shop-1", "shop-3", "x-2"] {
        assert_eq!(cove.text(&["files", "cat", &format!("{name}:/a")]), "a");
    }
}

#[test]
fn what_rolls_off_is_named_and_comes_back_pinned() {
    let variables = vec![("COVE_MAX_SNAPSHOTS_PER_PROJECT", "2".to_owned())];
    let settings = Settings { variables, ..Settings::with(Objects::Directory) };
    let Some(cove) = Cove::start_with(settings) else { return };
    cove.json(&["new", "shop"]);
    let keep = |content: &str| -> (String, Vec<String>) {
        cove.cove_with(&["files", "put", "shop:/a"], content.as_bytes()).success();
        let reply = cove.json(&["snapshot", "shop", "-m", content]);
        (text(&reply["entry"]["id"]), texts(&reply["rolled_off"], "id"))
    };
    let ids = || -> Vec<String> {
        cove.timeline("shop").iter().map(|entry| text(&entry["id"])).collect()
    };
    let (one, none) = keep("one");
    assert!(none.is_empty());
    let (two, none) = keep("two");
    assert!(none.is_empty());
    let (three, rolled_off) = keep("three");
    assert_eq!(rolled_off, std::slice::from_ref(&one), "the oldest");
    assert_eq!(ids(), [three.clone(), two.clone()]);
    let all = cove.json(&["timeline", "shop", "--all"]);
    assert_eq!(texts(&all["entries"], "id"), [three.clone(), two.clone(), one.clone()]);

    // Pinned ones do not count.
    cove.json(&["pin", &format!("shop@{two}")]);
    let (four, rolled_off) = keep("four");
    assert!(rolled_off.is_empty(), "{rolled_off:?}");
    let said = cove.cove(&["snapshot", "shop", "-m", "five"]).success();
    assert!(said.stderr.contains(&three), "what rolled off is named: {}", said.stderr);
    let five = said.stdout.trim().to_owned();
    assert_eq!(ids(), [five.clone(), four.clone(), two.clone()]);

    // Over the number, what comes back is pinned so that it stays.
    let back = cove.json(&["undelete", &format!("shop@{one}")]);
    assert_eq!(back["entry"]["id"], one.as_str());
    assert_eq!(back["entry"]["pinned"], true);
    assert_eq!(ids(), [five, four, two, one.clone()]);
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{one}:/a")]), "one");
    cove.refuses(3, &["undelete", "shop@aaaaaaaaaaaa"]);
}

#[test]
fn either_variable_says_how_many_entries_are_kept() {
    let settings = Settings::with(Objects::Directory);
    let variables = vec![("K8S_MAX_SNAPSHOTS_PER_PROJECT", "1".to_owned())];
    let Some(mut cove) = Cove::start_with(Settings { variables, ..settings }) else { return };
    cove.json(&["new", "shop"]);
    let roll = |cove: &Cove, count: usize| -> usize {
        (0..count).for_each(|_| drop(cove.snapshot("shop", "one more")));
        cove.timeline("shop").len()
    };
    assert_eq!(roll(&cove, 3), 1);
    // The one of Cove's own goes first.
    assert!(cove.stop().success());
    cove.set_variable("COVE_MAX_SNAPSHOTS_PER_PROJECT", "3");
    cove.up();
    assert_eq!(roll(&cove, 4), 3);
}

#[test]
fn what_was_written_a_moment_before_is_in_the_snapshot() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    let mut open = File::create(root.join("journal")).unwrap();
    let mut expected = Vec::new();
    for n in 0..5_u32 {
        let line = format!("line {n}\n").repeat(1 << (3 * n));
        open.write_all(line.as_bytes()).unwrap();
        fs::write(root.join(format!("file-{n}")), &line).unwrap();
        expected.extend_from_slice(line.as_bytes());
        let entry = cove.snapshot("shop", "at once");
        let place = format!("shop@{entry}:/journal");
        assert!(cove.cove(&["files", "cat", &place]).bytes == expected, "round {n}");
        assert_eq!(cove.text(&["files", "cat", &format!("shop@{entry}:/file-{n}")]), line);
    }
}

#[test]
fn without_waiting_the_result_is_on_this_node_and_is_saved_later() {
    let Some(cove) = Cove::start(Objects::S3) else { return };
    let source = cove.make_dir("source");
    let bytes: Vec<u8> = (0..4_000_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    fs::write(source.join("large"), bytes).unwrap();
    let made = cove.cove(&["new", "shop", "--from", "source", "--no-wait"]).success();
    assert!(
        made.stderr.contains("on this node") || made.stderr.contains("saved"),
        "{}",
        made.stderr
    );
    let entry = cove.json(&["snapshot", "shop", "--no-wait"]);
    let id = text(&entry["entry"]["id"]);
    let waited = cove.json(&["wait", "shop"]);
    assert_eq!(waited["project"]["durability"], "saved");
    assert_eq!(waited["project"]["unsaved_bytes"], 0);
    let timeline = cove.timeline("shop");
    assert_eq!(timeline[0]["id"], id.as_str());
    assert_eq!(timeline[0]["durability"], "saved");
    assert!(timeline[0]["saved_ms"].is_u64(), "{timeline:?}");
}

#[test]
fn changes_are_saved_by_themselves_and_unsaved_bytes_say_how_much_is_left() {
    let settings = Settings { store_every: "1s", ..Settings::with(Objects::Directory) };
    let Some(cove) = Cove::start_with(settings) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    fs::write(root.join("a"), vec![1; 100_000]).unwrap();
    let tree = poll("the change is saved", || {
        let changed = cove.json(&["show", "shop"]);
        let project = &changed["project"];
        let is_saved = project["durability"] == "saved" && project["bytes"]["logical"] == 100_000;
        if is_saved { Ok(project["saved_at"].clone()) } else { Err(changed.to_string()) }
    });
    assert!(tree.is_string());
    assert!(cove.timeline("shop").is_empty(), "saving makes no entry");
}
