//! `Idempotency-Key`: the same request has its first result and one effect, another is refused.

use serde_json::{Value, json};

use super::caller::{Answer, Call, Over, Victim};

const WAIT: &str = "until=captured&wait_ms=60000";

fn keyed(call: Call, key: &str) -> Call {
    call.header(format!("Idempotency-Key: {key}"))
}

fn snapshot(message: &str) -> Call {
    let target = format!("/v1/projects/shop/entries?{WAIT}");
    Call::new("POST", &target).json(&json!({ "message": message }))
}

/// Without what says how far saving is, and what is known from then on.
fn settled(mut reply: Value) -> Value {
    match &mut reply {
        Value::Object(members) => {
            for name in ["saved_ms", "durability", "saved_at", "health", "bytes", "seq"] {
                members.remove(name);
            }
            for name in ["tree", "tree_entries", "logical_bytes", "unsaved_bytes"] {
                members.remove(name);
            }
            members.values_mut().for_each(|member| *member = settled(member.take()));
        }
        Value::Array(list) => list.iter_mut().for_each(|one| *one = settled(one.take())),
        _ => {}
    }
    reply
}

/// Calls that change something, each lawful once.
fn calls(victim: &Victim) -> Vec<(&'static str, Call)> {
    let entry = &victim.entry;
    let shop = |rest: &str| format!("/v1/projects/shop{rest}");
    vec![
        (
            "create",
            Call::new("POST", &format!("/v1/projects?{WAIT}")).json(&json!({ "slug": "new" })),
        ),
        ("snapshot", snapshot("under a key")),
        (
            "label",
            Call::new("PATCH", &shop(&format!("/entries/{entry}"))).json(&json!({"label":"l1"})),
        ),
        (
            "pin",
            Call::new("PATCH", &shop(&format!("/entries/{entry}"))).json(&json!({"pinned":true})),
        ),
        (
            "fork",
            Call::new("POST", &shop(&format!("/fork?{WAIT}"))).json(&json!({ "as": "forked" })),
        ),
        ("mkdir", Call::new("POST", &shop("/files/directory")).json(&json!({ "path": "made" }))),
        (
            "move",
            Call::new("POST", &shop("/files/move"))
                .json(&json!({ "from": "dir/b.txt", "to": "moved.txt" })),
        ),
        (
            "restore",
            Call::new("POST", &shop(&format!("/restore?{WAIT}"))).json(&json!({ "entry": entry })),
        ),
        ("remove", Call::new("DELETE", &shop("/files?path=a.txt"))),
        ("trash", Call::new("DELETE", "/v1/projects/new")),
        ("undelete", Call::new("POST", "/v1/projects/new/undelete").json(&json!({}))),
        ("rename", Call::new("PATCH", "/v1/projects/new").json(&json!({ "slug": "newer" }))),
    ]
}

#[test]
fn a_key_gives_the_first_result_once_and_for_ever_and_no_other_request_has_it() {
    let Some(mut victim) = Victim::start() else { return };
    let mut given: Vec<(&str, String, Call, Value)> = Vec::new();
    for (n, (what, call)) in calls(&victim).into_iter().enumerate() {
        // A text, or an operation id.
        let key = if n % 2 == 0 { format!("key-of-{what}") } else { format!("{:032x}", n + 1) };
        let call = keyed(call, &key);
        let first = settled(victim.succeeds(&call));
        let state = victim.state();
        for over in [Over::Tcp, Over::Socket] {
            let again = victim.send(over, &call);
            assert!((200..300).contains(&again.status), "{what}: {}", again.json());
            assert_eq!(settled(again.json()), first, "{what} again");
        }
        assert_eq!(victim.state(), state, "{what} has one effect");
        given.push((what, key, call, first));
    }
    let before = victim.state();
    let refused = |victim: &Victim, what: &str, call: &Call| {
        let answer = victim.send(Over::Tcp, call);
        victim.refused(what, &[409], &answer);
        assert_eq!(answer.json()["kind"], "conflict", "{what}");
    };
    for (what, key, ..) in &given {
        // With another body, and by every other call.
        refused(&victim, &format!("{what}, then a snapshot"), &keyed(snapshot("another"), key));
        for (other, _, other_call, _) in given.iter().filter(|(_, other, ..)| other != key) {
            let mut reused = other_call.clone();
            reused.headers.retain(|line| !line.starts_with(b"Idempotency"));
            refused(&victim, &format!("{what}, then {other}"), &keyed(reused, key));
        }
        for store in ["/v1/verify", "/v1/recover"] {
            let call = Call::new("POST", store).json(&json!({}));
            refused(&victim, &format!("{what}, then {store}"), &keyed(call, key));
        }
    }
    assert_eq!(victim.state(), before, "a key that is refused changes nothing");

    let verify = |body: Value| {
        let call = Call::new("POST", "/v1/verify?wait_ms=60000").json(&body);
        keyed(call, "key-of-verify")
    };
    let first = victim.succeeds(&verify(json!({ "level": 0 })));
    assert_eq!(victim.succeeds(&verify(json!({ "level": 0 }))), first);
    refused(&victim, "verify, then another", &verify(json!({ "level": 1 })));
    refused(&victim, "verify, then a snapshot", &keyed(snapshot("m"), "key-of-verify"));
    assert_eq!(victim.state(), before);

    assert!(victim.cove.stop().success());
    victim.cove.up();
    victim.look_again();
    for (what, _, call, first) in &given {
        assert_eq!(&settled(victim.succeeds(call)), first, "{what} after a restart");
    }
    victim.cove.kill9();
    victim.cove.up();
    victim.look_again();
    for (what, key, call, first) in &given {
        assert_eq!(&settled(victim.succeeds(call)), first, "{what} after a crash");
        refused(&victim, &format!("{what}, then a snapshot"), &keyed(snapshot("another"), key));
    }
    assert_eq!(victim.state(), before, "nothing was done again");
}

#[test]
fn ten_at_once_under_one_key_are_one() {
    let Some(victim) = Victim::start() else { return };
    for (what, call) in calls(&victim) {
        let call = keyed(call, &format!("ten-of-{what}"));
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let sending: Vec<_> =
                (0..10).map(|_| scope.spawn(|| victim.send(Over::Tcp, &call))).collect();
            sending.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let first = settled(answers[0].json());
        for answer in &answers {
            assert!((200..300).contains(&answer.status), "{what}: {}", answer.json());
            assert_eq!(settled(answer.json()), first, "{what}");
        }
        let state = victim.state();
        assert_eq!(settled(victim.succeeds(&call)), first, "{what}");
        assert_eq!(victim.state(), state, "{what}");
    }
    let messages = victim.cove.timeline("shop");
    let made = messages.iter().filter(|entry| entry["message"] == "under a key").count();
    assert_eq!(made, 1, "{messages:?}");
}

#[test]
fn a_refusal_under_a_key_does_not_take_effect_later() {
    let Some(victim) = Victim::start() else { return };
    let create = |slug: &str| {
        let target = format!("/v1/projects?{WAIT}");
        keyed(Call::new("POST", &target).json(&json!({ "slug": slug })), "refused-once")
    };
    // What cannot be read binds no key.
    victim.refused("no name", &[400], &victim.send(Over::Tcp, &create("No Name")));
    let taken = create("shop");
    let first = victim.send(Over::Tcp, &taken);
    victim.refused("a name that is taken", &[409], &first);
    assert_eq!(first.json()["kind"], "already_exists");
    let before = victim.state();
    let again = victim.send(Over::Tcp, &taken);
    assert_eq!((again.status, &again.json()["kind"]), (409, &json!("already_exists")));
    assert_eq!(victim.state(), before);
}
