//! A Cove that loses its store to another while it runs.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Cove, Objects, Settings, list, poll, text};

#[test]
fn who_loses_a_bucket_says_so_and_damages_nothing() {
    let settings = Settings { store_every: "1s", ..Settings::with(Objects::S3) };
    let Some(first) = Cove::start_with(settings) else { return };
    loses_the_store(first);
}

#[test]
fn who_loses_a_directory_says_so_and_damages_nothing() {
    let settings = Settings { store_every: "1s", ..Settings::with(Objects::Directory) };
    let Some(first) = Cove::start_with(settings) else { return };
    loses_the_store(first);
}

fn loses_the_store(mut first: Cove) {
    first.json(&["new", "shop"]);
    first.cove_with(&["files", "put", "shop:/a"], b"shared").success();
    let entry = first.snapshot("shop", "shared");
    first.json(&["new", "idle"]);

    let settings =
        Settings { store_every: "1s", ..Settings::with(Objects::Url(first.objects.clone())) };
    let Some(mut second) = Cove::start_with(settings) else { return };
    let recovered = second.json(&["recover", "--take"]);
    assert_eq!(recovered["lost"], json!([]));
    second.cove_with(&["files", "put", "shop:/a"], b"of the second").success();
    second.json(&["snapshot", "shop", "-m", "of the second", "--label", "theirs"]);

    // The first one learns it, at the latest when it renews its hold; what was written meanwhile is
    // at risk once it was looked at.
    fs::write(first.path("shop").join("a"), "of the first").unwrap();
    let shown = poll("the first one says that it has lost the store and what is at risk", || {
        let shown = first.json(&["show", "shop"]);
        let health = &shown["project"]["health"];
        match health["store"] == "held_by_another" && health["state"] == "at_risk" {
            true => Ok(shown),
            false => Err(health.to_string()),
        }
    });
    let health = &shown["project"]["health"];
    let told: Vec<String> =
        list(&health["problems"]).iter().map(|one| text(&one["what"])).collect();
    assert!(told.iter().any(|what| what.contains("another")), "{told:?}");
    assert_ne!(shown["project"]["durability"], "saved", "{shown}");
    for name in ["shop", "idle"] {
        let said = first.text(&["show", name]);
        assert!(said.contains("another"), "{said}");
    }
    let doctor = first.cove(&["doctor"]);
    assert_eq!(doctor.code, 4, "{}{}", doctor.stdout, doctor.stderr);

    // What changes something is refused, clearly; what reads is not.
    let at = format!("shop@{entry}");
    for arguments in [
        &["snapshot", "shop"][..],
        &["snapshot", "shop", "--no-wait"],
        &["new", "fresh"],
        &["fork", "shop"],
        &["restore", "shop", &entry],
        &["pin", &at],
        &["label", &at, "mine"],
        &["rename", "shop", "other"],
        &["rm", "idle"],
    ] {
        let said = first.refuses(4, arguments);
        assert!(said.contains("another"), "{arguments:?}: {said}");
        assert!(said.contains("hint: ") && said.contains("recover"), "{arguments:?}: {said}");
    }
    assert_eq!(first.text(&["files", "cat", "shop:/a"]), "of the first");
    assert_eq!(first.text(&["files", "cat", &format!("{at}:/a")]), "shared");
    assert_eq!(fs::read(first.path("shop").join("a")).unwrap(), b"of the first");
    let timeline = first.timeline("shop");
    let is_saved = |one: &&Value| one["durability"] == "saved";
    assert_eq!(timeline.iter().filter(is_saved).count(), 1, "{timeline:?}");

    unharmed(&second);
    // Neither does a start change that.
    assert!(first.stop().success());
    first.up();
    first.refuses(4, &["snapshot", "shop"]);
    assert_eq!(first.text(&["files", "cat", "shop:/a"]), "of the first");
    unharmed(&second);
    second.lose_and_recover();
    unharmed(&second);
}

/// What the second one made is there and is whole.
#[track_caller]
fn unharmed(second: &Cove) {
    assert_eq!(second.text(&["files", "cat", "shop:/a"]), "of the second");
    assert_eq!(second.text(&["files", "cat", "shop@theirs:/a"]), "of the second");
    assert_eq!(second.json(&["verify", "--level", "2"])["problems"], json!([]));
    let timeline = second.timeline("shop");
    assert_eq!(timeline.len(), 2, "{timeline:?}");
    let names: Vec<Value> =
        list(&second.json(&["ls"])["projects"]).iter().map(|one| one["slug"].clone()).collect();
    assert_eq!(names, ["idle", "shop"]);
    second.cove_with(&["files", "put", "idle:/works"], b"on").success();
    second.json(&["wait", "idle"]);
}

#[test]
fn who_waits_for_a_save_when_the_store_is_lost_is_told() {
    let Some(first) = Cove::start(Objects::Directory) else { return };
    first.json(&["new", "shop"]);
    let Some(second) = Cove::start(Objects::Url(first.objects.clone())) else { return };
    second.json(&["recover", "--take"]);
    fs::write(first.path("shop").join("a"), "of the first").unwrap();
    let output = first.cove(&["snapshot", "shop"]);
    assert!(matches!(output.code, 4 | 5), "{}: {}", output.code, output.stderr);
    assert!(output.stderr.contains("another"), "{}", output.stderr);
    let output = first.cove(&["wait", "shop"]);
    assert!(matches!(output.code, 4 | 5), "{}: {}", output.code, output.stderr);
}
