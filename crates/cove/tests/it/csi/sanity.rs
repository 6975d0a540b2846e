//! The suite of csi-test, which asks what the interface says of every driver.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cove_testkit::proof::{self, Chance};

use super::{Driver, ONE_SOCKET};
use crate::harness::{Objects, Settings, run};

/// The program; `None` when skipping it was decided.
fn csi_sanity() -> Option<PathBuf> {
    let named = std::env::var_os("COVE_TEST_CSI_SANITY");
    let program = PathBuf::from(named.unwrap_or_else(|| "csi-sanity".into()));
    let mut probe = Command::new(&program);
    let probe = probe.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let why = match probe {
        Ok(status) if status.success() => return Some(program),
        Ok(status) => format!("{} --version ends with {status}", program.display()),
        Err(error) => format!("{} cannot be run: {error}", program.display()),
    };
    let may_skip = std::env::var_os("COVE_TEST_SKIP_GRPC").is_some_and(|value| value == "1");
    assert!(
        may_skip,
        "no csi-sanity for this test: {why}; go install \
         github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity@v5.5.0, or set COVE_TEST_SKIP_GRPC=1 \
         to skip the tests that need it"
    );
    eprintln!("SKIPPED, COVE_TEST_SKIP_GRPC=1: this test needs csi-sanity, and {why}");
    None
}

/// What became of one of its tests.
#[derive(Debug)]
struct Spec {
    name: String,
    status: String,
}

/// What a report of it says.
#[derive(Debug)]
struct Report(Vec<Spec>);

impl Report {
    fn parse(xml: &str) -> Self {
        let attribute = |tag: &str, name: &str| {
            let (_, rest) = tag.split_once(&format!(" {name}=\"")).expect("it has the attribute");
            let (value, _) = rest.split_once('"').expect("it ends");
            let value = value.replace("&gt;", ">").replace("&lt;", "<").replace("&#39;", "'");
            value.replace("&quot;", "\"").replace("&#34;", "\"").replace("&amp;", "&")
        };
        let specs = xml.split("<testcase").skip(1).map(|tag| Spec {
            name: attribute(tag, "name").trim_start_matches("[It] ").to_owned(),
            status: attribute(tag, "status"),
        });
        Self(specs.collect())
    }

    fn count(&self, status: &str) -> usize {
        self.0.iter().filter(|spec| spec.status == status).count()
    }

    /// Passed, failed in whatever way, and skipped.
    fn counts(&self) -> (usize, usize, usize) {
        let (passed, skipped) = (self.count("passed"), self.count("skipped"));
        (passed, self.0.len() - passed - skipped - self.count("pending"), skipped)
    }
}

/// Runs it on the sockets of a driver.
#[track_caller]
fn sanity(program: &Path, driver: &Driver, arguments: &[&str]) -> Report {
    let dir = driver.cove.dir.path();
    let parameters = dir.join("parameters.yaml");
    fs::write(&parameters, "storingInterval: \"60\"\n").unwrap();
    let report = dir.join("sanity.xml");
    let place = |flag: &str, name: &str| format!("--{flag}={}", dir.join(name).display());
    let mut command = Command::new("timeout");
    command.arg("900").arg(program).current_dir(dir);
    command.arg(format!("--csi.endpoint=unix://{}", dir.join("csi.sock").display()));
    command.arg(place("csi.mountdir", "sanity-mount"));
    command.arg(place("csi.stagingdir", "sanity-staging"));
    command.arg(place("csi.testvolumemutableparameters", "parameters.yaml"));
    command.args(["--csi.testvolumesize=104857600", "--csi.testvolumeexpandsize=209715200"]);
    command.args(["--csi.testnodevolumeattachlimit", "--ginkgo.no-color"]);
    command.arg(place("ginkgo.junit-report", "sanity.xml")).args(arguments);
    let output = run(&mut command, b"");
    let report = fs::read_to_string(report)
        .unwrap_or_else(|error| panic!("no report ({error}): {}{}", output.stdout, output.stderr));
    let report = Report::parse(&report);
    if report.counts().1 > 0 || output.code != 0 {
        panic!("{arguments:?}: {}{}", output.stdout, output.stderr);
    }
    report
}

/// What is there before and after each run: nothing.
#[track_caller]
fn nothing_is_left(driver: &Driver) {
    assert_eq!(driver.volumes(), [""; 0]);
    assert_eq!(driver.snapshots(), [""; 0]);
    assert_eq!(driver.mounts(), [""; 0]);
    for line in driver.cove.log().lines() {
        assert!(!line.contains(" ERROR "), "{line}");
    }
}

/// All of it, under some seeds.
#[track_caller]
fn passes_whole(what: &str, program: &Path, driver: &Driver) {
    let mut seeds = Chance::new(proof::seed(what));
    for round in 0..proof::rounds(1, 3) {
        let seed = format!("--ginkgo.seed={}", seeds.below(1 << 31));
        // the first in the order of the suite
        let order = if round == 0 { None } else { Some("--ginkgo.randomize-all") };
        let arguments: Vec<&str> = [seed.as_str()].into_iter().chain(order).collect();
        let report = sanity(program, driver, &arguments);
        let (passed, failed, skipped) = report.counts();
        println!("{what}: {passed} passed, {failed} failed");
        proof::figure(what, format!("{passed} passed, {failed} failed, {skipped} skipped"));
        assert_eq!((passed, failed, skipped), (95, 0, 0), "{report:#?}");
        nothing_is_left(driver);
    }
}

#[test]
fn csi_sanity_passes() {
    let Some(program) = csi_sanity() else { return };
    let Some(driver) = Driver::start_with(&["--csi-volumes-max", "2"]) else { return };
    passes_whole("csi-sanity", &program, &driver);
}

#[test]
fn csi_sanity_passes_with_hub_and_node_in_two_processes() {
    let Some(program) = csi_sanity() else { return };
    let mut flags = ONE_SOCKET.to_vec();
    flags.extend(["--csi-volumes-max", "2"]);
    let settings = Settings { flags, is_apart: true, ..Settings::with(Objects::Directory) };
    let Some(driver) = Driver::start_as(settings) else { return };
    passes_whole("csi-sanity with Hub and node in two processes", &program, &driver);
}

#[test]
fn csi_sanity_passes_with_a_socket_for_the_controller_and_one_for_the_node() {
    let Some(program) = csi_sanity() else { return };
    let mut flags = ONE_SOCKET.to_vec();
    // the other way round, so that this caller's socket is the controller's
    flags[1] = "unix://{dir}/node.sock";
    flags.extend(["--csi-controller-endpoint", "unix://{dir}/csi.sock", "--csi-volumes-max", "2"]);
    let settings = Settings { flags, ..Settings::with(Objects::Directory) };
    let Some(driver) = Driver::start_as(settings) else { return };
    let dir = driver.cove.dir.path().display();
    let sockets = [
        format!("--csi.endpoint=unix://{dir}/node.sock"),
        format!("--csi.controllerendpoint=unix://{dir}/csi.sock"),
    ];
    let report = sanity(&program, &driver, &[&sockets[0], &sockets[1]]);
    assert_eq!(report.counts(), (95, 0, 0), "{report:#?}");
    proof::figure(
        "csi-sanity on two sockets",
        format!("{} passed, 0 failed", report.count("passed")),
    );
    nothing_is_left(&driver);
    let refused = driver.wait(driver.node().node_get_info(super::pb::NodeGetInfoRequest {}));
    assert_eq!(super::code(refused), tonic::Code::Unimplemented);
}

/// A pattern that is this text and no other.
fn quoted(text: &str) -> String {
    let special = |c: char| {
        matches!(
            c,
            '[' | ']' | '(' | ')' | '.' | '*' | '+' | '?' | '|' | '\\' | '{' | '}' | '^' | '$'
        )
    };
    let mut pattern = String::new();
    for c in text.chars() {
        if special(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Each test is a run of its own on a driver that has been killed since the one before. A volume stays published
/// all the while.
#[test]
fn csi_sanity_passes_on_a_driver_that_is_killed_between_its_tests() {
    let Some(program) = csi_sanity() else { return };
    let Some(mut driver) = Driver::start_with(&["--csi-volumes-max", "2"]) else { return };
    let all = sanity(&program, &driver, &["--ginkgo.dry-run"]);
    let mut specs: Vec<&Spec> = all.0.iter().filter(|spec| spec.status != "pending").collect();
    assert_eq!(specs.len(), 95, "{all:#?}");
    let mut chance = Chance::new(proof::seed("csi_sanity_passes_on_a_driver_that_is_killed"));
    for at in (1..specs.len()).rev() {
        specs.swap(at, chance.index(at + 1));
    }
    specs.truncate(proof::rounds(12, 95));

    let volume = driver.make("stays", 64);
    let target = driver.publish(&volume, "stays");
    // one of the two that the node may have is for the suite
    driver.controller_unpublish(&volume).unwrap();
    for (number, spec) in specs.iter().enumerate() {
        driver.kill9_and_start();
        let file = target.join("kept");
        fs::write(&file, number.to_string()).unwrap();
        let focus = format!("--ginkgo.focus=^CSI Driver Test Suite {}$", quoted(&spec.name));
        let report = sanity(&program, &driver, &[&focus]);
        let (passed, failed, _) = report.counts();
        assert_eq!((passed, failed), (1, 0), "{}: {report:#?}", spec.name);
        assert_eq!(fs::read_to_string(&file).unwrap(), number.to_string());
    }
    proof::figure(
        "csi-sanity, killed between its tests",
        format!("{} passed, 0 failed", specs.len()),
    );
    driver.unpublish(&volume, "stays");
    driver.delete(&volume).unwrap();
    nothing_is_left(&driver);
}
