//! What pods do with volumes, and what they do while the driver is away.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use cove_csi::proto::volume_capability::access_mode::Mode;
use cove_testkit::proof;
use tonic::Code;

use super::{Driver, capability, code};
use crate::harness::{poll, run};

#[test]
fn a_pod_that_is_not_root_writes_where_its_volume_is_mounted() {
    let Some(driver) = Driver::start() else { return };
    let volume = driver.make("data", 64);
    let target = driver.publish(&volume, "pod");
    // as kubelet does for a pod with a group of its own
    std::os::unix::fs::chown(&target, None, Some(1000)).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o2775)).unwrap();
    let script = "set -e; cd \"$1\"; mkdir dir; echo written > dir/file; ln -s file dir/link; \
                  mv dir/file dir/moved; cat dir/moved";
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        "1000",
        "--regid",
        "1000",
        "--clear-groups",
        "sh",
        "-ec",
        script,
        "sh",
    ]);
    let output = run(command.arg(&target), b"").success();
    assert_eq!(output.stdout, "written\n");
    let about = fs::metadata(target.join("dir/moved")).unwrap();
    assert_eq!((about.uid(), about.gid()), (1000, 1000));
    driver.unpublish(&volume, "pod");

    let target = driver.publish(&volume, "another");
    assert_eq!(fs::read_to_string(target.join("dir/moved")).unwrap(), "written\n");
    driver.unpublish(&volume, "another");
    driver.delete(&volume).unwrap();
}

#[test]
fn readers_do_not_write_and_one_workload_is_alone() {
    let Some(driver) = Driver::start() else { return };
    let volume = driver.make("data", 64);
    let target = driver.publish(&volume, "writer");
    fs::write(target.join("file"), "content").unwrap();

    let mut reader = driver.to_publish(&volume, "reader");
    reader.readonly = true;
    for _ in 0..2 {
        driver.node_publish(reader.clone()).unwrap();
    }
    let place = driver.target("reader");
    assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "content");
    for refused in [fs::write(place.join("file"), "x"), fs::remove_file(place.join("file"))] {
        assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
    reader.readonly = false;
    assert_eq!(code(driver.node_publish(reader)), Code::AlreadyExists);
    let mut alone = driver.to_publish(&volume, "alone");
    alone.volume_capability = Some(capability(Mode::SingleNodeSingleWriter));
    assert_eq!(code(driver.node_publish(alone.clone())), Code::FailedPrecondition);
    assert!(!driver.target("alone").exists());
    fs::write(target.join("file"), "the writer goes on").unwrap();
    // in use is in use, mounted or published
    assert_eq!(code(driver.delete(&volume)), Code::FailedPrecondition);
    driver.unmount(&volume, "reader");
    driver.unmount(&volume, "writer");
    assert_eq!(code(driver.delete(&volume)), Code::FailedPrecondition);

    // to whom it is given for reading only, the node gives it so
    assert_eq!(code(driver.controller_publish(&volume, true)), Code::AlreadyExists);
    driver.controller_unpublish(&volume).unwrap();
    let given = driver.controller_publish(&volume, true).unwrap();
    let mut request = driver.to_publish(&volume, "given");
    request.publish_context = given.publish_context;
    driver.node_publish(request).unwrap();
    fs::write(driver.target("given").join("file"), "x").unwrap_err();
    driver.unpublish(&volume, "given");

    // alone in one place, as often as it is asked for, and in no second one
    driver.node_publish(alone.clone()).unwrap();
    driver.node_publish(alone.clone()).unwrap();
    alone.target_path = super::text(&driver.target("second"));
    assert_eq!(code(driver.node_publish(alone)), Code::FailedPrecondition);
    assert_eq!(driver.mounts().len(), 1);
    driver.unmount(&volume, "alone");
    driver.delete(&volume).unwrap();
    assert_eq!(driver.mounts(), [""; 0]);
}

/// A program that appends numbers to a file and has each on the disk before the next.
struct Writer {
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Writer {
    fn start(mut file: File) -> Self {
        let (written, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (told, ended) = (Arc::clone(&written), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for n in 1_u64.. {
                writeln!(file, "{n}")?;
                file.sync_data()?;
                told.store(n, Ordering::SeqCst);
                if ended.load(Ordering::SeqCst) {
                    break;
                }
            }
            Ok(())
        });
        Self { written, stop, thread }
    }

    fn goes_on(&self) {
        let before = self.written.load(Ordering::SeqCst);
        poll("the writer goes on", || match self.written.load(Ordering::SeqCst) {
            now if now > before + 5 => Ok(()),
            _ if self.thread.is_finished() => panic!("the writer has ended"),
            now => Err(format!("{now} numbers are written")),
        });
    }

    /// How many numbers it has written, all without an error.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap().expect("no write fails");
        self.written.load(Ordering::SeqCst)
    }
}

#[test]
fn a_pod_goes_on_while_the_driver_is_killed_and_started_again() {
    let Some(mut driver) = Driver::start() else { return };
    let volume = driver.make("data", 64);
    let target = driver.publish(&volume, "pod");
    let writer = Writer::start(File::create(target.join("numbers")).unwrap());
    for _ in 0..proof::rounds(2, 20) {
        writer.goes_on();
        driver.cove.kill9();
        writer.goes_on();
        driver.cove.up();
        writer.goes_on();
        // whoever asks again finds it as it is
        driver.node_publish(driver.to_publish(&volume, "pod")).unwrap();
        assert_eq!(driver.mounts().len(), 1, "{:?}", driver.mounts());
        assert_eq!(driver.stats(&volume, &target).unwrap().total, 64 << 20);
        assert_eq!(code(driver.delete(&volume)), Code::FailedPrecondition);
    }
    // somebody works in it: it is not taken away under him
    assert_eq!(code(driver.node_unpublish(&volume, "pod")), Code::FailedPrecondition);
    writer.goes_on();
    let snapshot = driver.snapshot("under way", &volume).unwrap().snapshot_id;
    let count = writer.stop();
    let whole: String = (1..=count).map(|n| format!("{n}\n")).collect();
    assert_eq!(fs::read_to_string(target.join("numbers")).unwrap(), whole);
    driver.kill9_and_start();
    driver.unpublish(&volume, "pod");
    driver.unpublish(&volume, "pod");
    assert_eq!(driver.mounts(), [""; 0]);

    let target = driver.publish(&volume, "again");
    assert_eq!(fs::read_to_string(target.join("numbers")).unwrap(), whole);
    driver.unpublish(&volume, "again");
    driver.delete(&volume).unwrap();
    driver.delete_snapshot(&snapshot).unwrap();
}

#[test]
fn a_volume_is_unpublished_however_often_it_is_mounted_there_and_nothing_else_is() {
    let Some(driver) = Driver::start() else { return };
    let volume = driver.make("data", 64);
    driver.publish(&volume, "pod");
    // somebody mounts it once more on top, and something else of his own beside it
    let (target, own) = (driver.target("pod"), driver.target("own"));
    let once_more = run(Command::new("mount").arg("--bind").arg(&target).arg(&target), b"");
    once_more.success();
    fs::create_dir(&own).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&own), b"").success();
    fs::write(own.join("file"), "own").unwrap();
    driver.unmount(&volume, "own");
    assert_eq!(fs::read_to_string(own.join("file")).unwrap(), "own", "it is of no volume");
    let unknown = "vol-none".to_owned();
    driver.node_unpublish(&unknown, "pod").unwrap();
    assert_eq!(driver.mounts().len(), 3, "{:?}", driver.mounts());
    driver.node_unpublish(&volume, "pod").unwrap();
    assert_eq!(driver.mounts().len(), 1, "{:?}", driver.mounts());
    driver.controller_unpublish(&volume).unwrap();
    driver.delete(&volume).unwrap();
    driver.unpublish(&volume, "pod");
}

#[test]
fn a_volume_becomes_the_workspace_of_a_project_and_is_deleted_with_it_alone() {
    let Some(driver) = Driver::start() else { return };
    let volume = driver.make("pvc-1", 64);
    let target = driver.publish(&volume, "pod");
    fs::write(target.join("file"), "of the pod").unwrap();
    driver.cove.json(&["new", "shop", "--volume", &volume]);
    assert_eq!(driver.cove.text(&["files", "cat", "shop:/file"]), "of the pod");
    fs::write(target.join("file"), "of the pod, later").unwrap();
    assert_eq!(driver.cove.text(&["files", "cat", "shop:/file"]), "of the pod, later");
    let snapshot = driver.snapshot("of a workspace", &volume).unwrap().snapshot_id;
    // under its pod it goes neither back nor to the trash, published or not
    let first = driver.cove.snapshot("shop", "first");
    let place = target.display().to_string();
    let refused = |arguments: &[&str], said: &str| {
        let refused = driver.cove.cove(arguments);
        assert_eq!(refused.code, 4, "{}", refused.stderr);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    };
    refused(&["restore", "shop", &first], &place);
    refused(&["rm", "shop"], "published on node n1");
    driver.controller_unpublish(&volume).unwrap();
    refused(&["rm", "shop"], &place);
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "of the pod, later");
    driver.unpublish(&volume, "pod");

    let refused = driver.delete(&volume).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("project shop"), "{refused:?}");
    assert_eq!(driver.cove.text(&["files", "cat", "shop:/file"]), "of the pod, later");
    assert_eq!(driver.volumes(), [volume.as_str()]);
    // an entry of its timeline is no snapshot that the interface deletes
    let entry = driver.cove.snapshot("shop", "an entry");
    assert_eq!(driver.snapshots(), [snapshot.as_str()]);
    let refused = driver.delete_snapshot(&format!("{volume}@{entry}")).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    // and it can still be made a volume of
    let mut request = super::new("of an entry", 64);
    request.volume_content_source = super::from_snapshot(&format!("{volume}@{entry}"));
    let copy = driver.create(request).unwrap().volume_id;
    let target = driver.publish(&copy, "copy");
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "of the pod, later");
    driver.unpublish(&copy, "copy");
    driver.delete(&copy).unwrap();
    driver.delete_snapshot(&snapshot).unwrap();
}
