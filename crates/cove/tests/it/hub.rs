//! The Volume Hub as programs in another language call it: Python with stubs of its own, and `grpcurl`.
//!
//! What is asked and what is expected stands in `tests/hub/*.py`. This side runs the Cove, and does to it what its
//! callers cannot: kills it, loses its machine, takes its store away.

pub mod client;
mod guide;

use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use cove_testkit::proof::{Chance, figure, is_full, rounds, seed};
use cove_testkit::{Fault, FaultPlan, FaultProxy};
use serde_json::Value;

use self::client::{Client, grpcurl};
use crate::harness::{Cove, Objects, Settings, run, s3};

/// A Cove in which nothing is saved by itself but what is asked for.
fn quiet() -> Settings {
    Settings::with(Objects::Directory)
}

/// One that saves all the time.
fn busy() -> Settings {
    Settings { store_every: "1s", ..Settings::with(Objects::Directory) }
}

#[test]
fn every_call_does_on_the_disk_what_it_says() {
    let Some(mut client) = Client::start(quiet()) else { return };
    client.run("calls", 1, 1);
}

#[test]
fn every_code_of_the_protocol_is_that_of_its_cause() {
    let Some(mut client) = Client::start(quiet()) else { return };
    client.run("codes", 1, 1);
}

#[test]
fn without_its_store_it_does_what_needs_none_and_tells_the_rest() {
    let Some(server) = s3() else { return };
    let proxy = FaultProxy::before(&server.endpoint);
    let mut settings = Settings { store_every: "1s", ..Settings::with(Objects::S3) };
    settings.variables.push(("AWS_ENDPOINT_URL", proxy.endpoint.clone()));
    let Some(mut client) = Client::start(settings) else { return };
    client.run_with("away", 1, 1, |_, words| {
        let fails = |fault| FaultPlan::outage(0, 100_000, fault).of_all();
        match words {
            "store away" => proxy.arm(fails(Fault::Refused)),
            "store refuses" => proxy.arm(fails(Fault::Status(403))),
            "store back" => proxy.heal(),
            _ => return None,
        }
        Some("done".to_owned())
    });
}

#[test]
fn a_call_that_was_cut_off_has_one_effect_when_it_is_repeated() {
    let test = "a_call_that_was_cut_off_has_one_effect_when_it_is_repeated";
    let Some(mut client) = Client::start(busy()) else { return };
    let rounds = rounds(12, 100);
    client.run("interrupted", seed(test), rounds);
    figure("changing calls of the Hub cut off and repeated, each with one effect", rounds * 10);
}

#[test]
fn nothing_is_lost_and_nothing_left_over_when_it_is_killed_under_four_programs() {
    let test = "nothing_is_lost_and_nothing_left_over_when_it_is_killed_under_four_programs";
    let Some(mut client) = Client::start(busy()) else { return };
    let rounds = rounds(20, 100);
    client.run("killed", seed(test), rounds);
    figure("kills of Cove under programs that call the Hub, all came to one answer", rounds);
}

#[test]
fn nothing_is_lost_and_nothing_left_over_when_hub_or_node_alone_is_killed() {
    let test = "nothing_is_lost_and_nothing_left_over_when_hub_or_node_alone_is_killed";
    let Some(mut client) = Client::start(Settings { is_apart: true, ..busy() }) else { return };
    let rounds = rounds(20, 100);
    let seed = seed(test);
    let mut chance = Chance::new(seed);
    let mut kills = [0; 2];
    client.run_with("killed", seed, rounds, |cove, words| {
        if words != "kill and start" {
            return None;
        }
        let which = chance.index(2);
        kills[which] += 1;
        match which {
            0 => cove.kill9_hub(),
            _ => cove.kill9_node(),
        }
        Some("done".to_owned())
    });
    let [hubs, nodes] = kills;
    figure(
        "kills of the Hub alone and of the node alone under programs",
        format!("{hubs} and {nodes}"),
    );
}

#[test]
fn a_request_that_is_none_is_refused_by_the_name_of_its_field() {
    let Some(mut client) = Client::start(quiet()) else { return };
    client.run("bad_input", 1, 1);
}

#[test]
fn lists_that_change_are_whole_and_changes_are_told() {
    let Some(mut client) = Client::start(quiet()) else { return };
    client.run("lists", 1, 1);
}

/// What `grpcurl` of the Hub answers to a call without a service of ours, as JSON or text.
fn ask(cove: &Cove, grpcurl: &OsStr, arguments: &[&str]) -> String {
    let socket = format!("unix://{}", cove.home.join("hub.sock").display());
    let (flags, words) = arguments.split_at(arguments.len() - 1);
    let mut command = Command::new(grpcurl);
    command.arg("-plaintext").args(flags).arg(socket).args(words[0].split(' '));
    run(&mut command, b"").success().stdout
}

#[test]
fn it_tells_its_health_and_describes_itself() {
    let Some(grpcurl) = grpcurl() else { return };
    let Some(mut cove) = Cove::start_with(quiet()) else { return };
    for request in ["{}", r#"{"service": "cove.hub.v1.VolumeHub"}"#] {
        let told = ask(&cove, &grpcurl, &["-d", request, "grpc.health.v1.Health/Check"]);
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told, serde_json::json!({ "status": "SERVING" }), "{request}");
    }
    let services = ask(&cove, &grpcurl, &["list"]);
    let services: Vec<&str> = services.lines().collect();
    for service in ["cove.hub.v1.VolumeHub", "grpc.health.v1.Health"] {
        assert!(services.contains(&service), "{services:?}");
    }
    // all that the file says is told, word for word
    let proto = fs::read_to_string(client::PROTO).unwrap();
    let calls = proto.lines().filter_map(|line| line.strip_prefix("  rpc ")?.split('(').next());
    let described = ask(&cove, &grpcurl, &["describe cove.hub.v1.VolumeHub"]);
    let mut count = 0;
    for call in calls {
        assert!(described.contains(&format!("rpc {call} (")), "{call}: {described}");
        let one = ask(&cove, &grpcurl, &[&format!("describe cove.hub.v1.VolumeHub.{call}")]);
        assert!(one.lines().filter(|line| line.starts_with("// ")).count() >= 1, "{one}");
        count += 1;
    }
    assert_eq!(count, 16);
    let kept = ["cove.hub.v1.Volume", "cove.hub.v1.CreateVolumeRequest"];
    for message in kept {
        let one = ask(&cove, &grpcurl, &[&format!("describe {message}")]);
        for line in one.lines().filter(|line| line.trim_start().starts_with("//")) {
            assert!(proto.contains(line.trim()), "{message}: {line}");
        }
    }
    assert!(cove.stop().success());
    assert!(!cove.home.join("hub.sock").exists(), "its socket goes with it");
    if is_full() {
        figure("calls of the Hub that describe themselves", count);
    }
}
