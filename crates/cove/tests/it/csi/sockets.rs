//! Who gets to the driver.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use cove_csi::proto as pb;
use cove_csi::proto::identity_client::IdentityClient;
use tonic::{Code, Status};

use super::{Driver, ONE_SOCKET, channel};
use crate::harness::{Cove, Objects, Settings, run};

/// What somebody else of this machine is told: a thread is him from here on.
fn asked_as(uid: u32, socket: &Path) -> Result<String, Status> {
    let socket = socket.to_owned();
    let asking = std::thread::spawn(move || {
        rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(uid)).unwrap();
        // on this thread alone, which connects then
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut identity = IdentityClient::new(channel(&runtime, &socket));
        let told = runtime.block_on(identity.get_plugin_info(pb::GetPluginInfoRequest {}));
        told.map(|told| told.into_inner().name)
    });
    asking.join().unwrap()
}

#[test]
fn root_alone_is_answered() {
    let Some(driver) = Driver::start() else { return };
    let socket = driver.cove.dir.path().join("csi.sock");
    let about = fs::symlink_metadata(&socket).unwrap();
    assert!(about.file_type().is_socket());
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    assert_eq!(asked_as(0, &socket).unwrap(), cove_csi::DRIVER);
    let refused = |when: &str| {
        let refused = asked_as(65_534, &socket).expect_err(when);
        // the connection fails, or is closed before anything is answered, which is told as it is met
        assert!(
            matches!(refused.code(), Code::Unavailable | Code::Unknown | Code::Cancelled),
            "{when}: {refused:?}"
        );
    };
    refused("its mode keeps others out");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    refused("the driver knows who calls");
    assert_eq!(asked_as(0, &socket).unwrap(), cove_csi::DRIVER);
    assert!(driver.cove.log().contains("user=65534"), "{}", driver.cove.log());
    let other = driver.wait(driver.identity().probe(pb::ProbeRequest {})).unwrap();
    assert_eq!(other.ready, Some(true));
}

#[test]
fn it_is_not_served_unless_it_is_asked_for_and_in_nobodys_place() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    assert!(!cove.dir.path().join("csi.sock").exists());
    drop(cove);
    let settings = Settings { flags: ONE_SOCKET.to_vec(), ..Settings::with(Objects::Directory) };
    let Some(cove) = Cove::prepare(settings) else { return };
    let place = cove.dir.path().join("csi.sock");
    fs::write(&place, "mine").unwrap();
    let refused = run(&mut cove.refused_up(), b"");
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("error: failed to make the socket"), "{}", refused.stderr);
    assert_eq!(fs::read(&place).unwrap(), b"mine");
    for wrong in [
        &["--csi-endpoint", "tcp://127.0.0.1:10000"][..],
        &["--csi-controller-endpoint", "unix:///tmp/none.sock"],
        &["--csi-endpoint", "unix:///tmp/none.sock", "--csi-compat", "1.14"],
        &["--csi-endpoint", "unix:///tmp/none.sock", "--csi-volumes-max", "0"],
        &["--csi-endpoint", "unix://tmp/none.sock"],
        &["--csi-endpoint", "/tmp/none.sock"],
        &["--node-id", "No"],
    ] {
        let settings = Settings { flags: wrong.to_vec(), ..Settings::with(Objects::Directory) };
        let Some(cove) = Cove::prepare(settings) else { return };
        let refused = run(&mut cove.refused_up(), b"");
        assert_eq!(refused.code, 2, "{wrong:?}: {}", refused.stderr);
        assert!(!cove.home.exists(), "{wrong:?}: nothing is made");
    }

    // where somebody listens nobody else comes; what one that was killed left is nobody's
    let Some(mut driver) = Driver::start() else { return };
    let volume = driver.make("data", 16);
    let Some(second) = Cove::prepare(Settings::with(Objects::Directory)) else { return };
    let (own, registry) = (driver.cove.dir.path(), second.make_dir("registry"));
    let (taken, hub) = (own.join("csi.sock"), own.join("home/hub.sock"));
    let registered = registry.join("cove.csi.storage-reg.sock");
    let _somebody = UnixListener::bind(&registered).unwrap();
    let at = |socket: &Path| format!("unix://{}", socket.display());
    let own_socket = at(&second.dir.path().join("csi.sock"));
    let mut attempts = [second.refused_up(), second.refused_up(), second.program()];
    attempts[0].args(["--csi-endpoint", &at(&taken)]);
    attempts[1].args(["--csi-endpoint", &own_socket, "--csi-registration"]).arg(&registry);
    attempts[2].args(["hub", "--http-listen", "127.0.0.1:0", "--listen", &at(&hub)]);
    for (mut attempt, place) in attempts.into_iter().zip([&taken, &registered, &hub]) {
        let refused = run(&mut attempt, b"");
        assert_eq!(refused.code, 4, "{}", refused.stderr);
        let told = format!("another program listens on the socket {} already", place.display());
        assert!(refused.stderr.contains(&told), "{}", refused.stderr);
        assert!(fs::symlink_metadata(place).unwrap().file_type().is_socket());
    }
    assert!(!second.dir.path().join("csi.sock").exists());
    assert_eq!(asked_as(0, &taken).unwrap(), cove_csi::DRIVER);
    assert_eq!(driver.volumes(), [volume.as_str()]);
    driver.kill9_and_start();
    assert_eq!(driver.volumes(), [volume.as_str()]);
}

#[test]
fn what_keeps_it_from_being_served_is_told_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: &'static str = taken.local_addr().unwrap().to_string().leak();
    for (flags, code, said, hint) in [
        (["--csi-healthz", address], 4, "another program listens on", "--csi-healthz"),
        (["--csi-registration", "/missing"], 3, "--csi-registration", "kubelet makes it"),
    ] {
        let flags = [&ONE_SOCKET[..], &flags].concat();
        let settings = Settings { flags, ..Settings::with(Objects::Directory) };
        let Some(cove) = Cove::prepare(settings) else { return };
        let refused = run(&mut cove.refused_up(), b"");
        assert_eq!(refused.code, code, "{}", refused.stderr);
        let (what, told) = refused.stderr.split_once("\n\nhint: ").unwrap();
        assert!(what.contains(said) && !what.contains("os error"), "{what}");
        assert!(told.contains(hint), "{told}");
    }
}

#[test]
fn a_start_in_the_background_tells_where_it_serves() {
    let settings = Settings { flags: ONE_SOCKET.to_vec(), ..Settings::with(Objects::Directory) };
    let Some(cove) = Cove::prepare(settings) else { return };
    let started = run(cove.up_command().arg("--detach"), b"").success();
    for socket in [cove.home.join("hub.sock"), cove.dir.path().join("csi.sock")] {
        let said = format!(" is at {}\n", socket.display());
        assert!(started.stderr.contains(&said), "{said}{}", started.stderr);
    }
    cove.cove(&["down"]).success();
}

#[test]
fn what_is_announced_is_what_the_version_knows() {
    let Some(driver) = Driver::start_with(&["--csi-compat", "1.13"]) else { return };
    let mut controller = driver.controller();
    let request = pb::ControllerGetCapabilitiesRequest {};
    let newer = driver.wait(controller.controller_get_capabilities(request)).unwrap();
    assert_eq!(newer.capabilities.len(), 16);
    let mut node = driver.node();
    let newer = driver.wait(node.node_get_capabilities(pb::NodeGetCapabilitiesRequest {})).unwrap();
    assert_eq!(newer.capabilities.len(), 6);
    let volume = driver.make("data", 16);
    let request = pb::ControllerGetVolumeHealthRequest {
        volume_id: volume.clone(),
        ..pb::ControllerGetVolumeHealthRequest::default()
    };
    let mut controller = driver.controller();
    let told = driver.wait(controller.controller_get_volume_health(request)).unwrap();
    let told = told.volume_health.unwrap();
    assert_eq!((told.volume_id, told.health_statuses), (volume, vec![]));
    let mut node = driver.node();
    let told =
        driver.wait(node.node_get_storage_health(pb::NodeGetStorageHealthRequest::default()));
    assert_eq!(told.unwrap().backend_health, []);
}
