//! `make down` and `make uninstall`, by the scripts that they run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cove_hub::VolumeHub;
use cove_hub::volume_hub::{CreateVolume, QuotaRange};
use cove_hub_grpc::HubClient;
use cove_types::OperationId;
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::harness::{Cove, Objects, Output, Settings, is_mounted, loop_devices_of, run};

/// A machine on which this Cove is installed below a directory of the test.
struct Installed {
    cove: Cove,
    prefix: PathBuf,
}

impl Installed {
    fn prepare(objects: impl FnOnce(&Path) -> String) -> Option<Self> {
        let mut cove = Cove::prepare(Settings::with(Objects::Directory))?;
        cove.objects = objects(cove.dir.path());
        let prefix = cove.make_dir("prefix");
        fs::create_dir(prefix.join("bin")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_cove"), prefix.join("bin/cove")).unwrap();
        Some(Self { cove, prefix })
    }

    /// A script of the repository, with nothing else of this machine installed.
    fn script(&self, name: &str, variables: &[(&str, &str)]) -> Output {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
        let mut command = Command::new("sh");
        let asked = ["CONFIRM", "DISCARD", "SUDO_UID"];
        let given = ["COVE_URL", "COVE_TOKEN", "COVE_POOL", "COVE_OBJECTS"];
        for variable in asked.into_iter().chain(given) {
            command.env_remove(variable);
        }
        let path = std::env::var("PATH").unwrap();
        command.arg(scripts.join(name)).env("PREFIX", &self.prefix);
        command.env("COVE_HOME", &self.cove.home).env("COVE_POOL_BYTES", "512MiB");
        command.env("PATH", format!("{}:{path}", self.prefix.join("bin").display()));
        command.env("CARGO_TARGET_DIR", self.prefix.join("nothing-is-built"));
        command.envs(variables.iter().copied());
        run(&mut command, b"")
    }

    /// Uninstalling is refused, and says that this would be lost.
    #[track_caller]
    fn keeps(&self, variables: &[(&str, &str)], loss: &str) {
        let refused = self.script("uninstall.sh", &[variables, &[("CONFIRM", "yes")]].concat());
        assert_eq!(refused.code, 4, "{}{}", refused.stdout, refused.stderr);
        assert!(refused.stderr.contains("nothing was deleted, because this would be lost: "));
        assert!(refused.stderr.contains(loss), "{}", refused.stderr);
        assert!(refused.stderr.contains("DISCARD=yes"), "{}", refused.stderr);
        assert!(self.is_installed());
        assert!(!is_mounted(&self.cove.home.join("pool")), "what it started it stops");
    }

    /// A program makes a volume of that name, which is stored a second after each change; gives its files.
    fn make_volume(&self, name: &str) -> PathBuf {
        let request = CreateVolume {
            name: name.parse().unwrap(),
            operation: OperationId::new(0, [7; 12]),
            source: None,
            quota: QuotaRange::exact(None),
            labels: [("durability".to_owned(), "saved".to_owned())].into(),
            parameters: [("storingInterval".to_owned(), "1".to_owned())].into(),
            wait_saved: true,
        };
        let hub = self.cove.home.join("hub.sock");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let made = runtime.block_on(async { HubClient::unix(&hub).create_volume(request).await });
        made.unwrap().0.path.expect("it is here")
    }

    fn is_installed(&self) -> bool {
        let link = self.prefix.join("bin/cove").is_symlink();
        assert_eq!(link, self.cove.home.exists(), "it is deleted whole or not at all");
        link
    }
}

#[test]
fn what_is_saved_elsewhere_is_uninstalled_after_a_stop() {
    let objects = |dir: &Path| format!("file://{}/objects", dir.display());
    let Some(mut machine) = Installed::prepare(objects) else { return };
    machine.cove.up();
    machine.cove.json(&["new", "shop"]);
    for said in ["stopped", "no Cove is running in "] {
        let down = machine.script("down.sh", &[]).success();
        assert!(down.stderr.contains(said), "{}", down.stderr);
    }
    assert!(machine.cove.ended().success());

    let told = machine.script("uninstall.sh", &[]).success().stdout;
    assert!(machine.is_installed(), "{told}");
    let home = machine.cove.home.display().to_string();
    for word in [&home, "make uninstall CONFIRM=yes  ", "make uninstall CONFIRM=yes DISCARD=yes  "]
    {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert!(told.contains("CONFIRM=yes starts it to see"), "{told}");
    assert!(!is_mounted(&machine.cove.home.join("pool")), "who only asks starts nothing");

    let told = machine.script("uninstall.sh", &[("CONFIRM", "yes")]).success().stdout;
    assert!(told.contains(&format!("deleted {home}\n")), "{told}");
    assert!(!machine.is_installed());
    let told = machine.script("uninstall.sh", &[("CONFIRM", "yes")]).success().stdout;
    assert_eq!(told, "there is nothing to delete: Cove is not installed here\n");
    // What was saved is not in the home, and comes back on another one.
    machine.cove.up();
    machine.cove.json(&["recover", "--take"]);
    assert_eq!(machine.cove.text(&["ls", "--quiet"]), "shop\n");
}

#[test]
fn what_is_saved_in_the_home_only_is_deleted_by_a_word_of_its_own() {
    let objects = |dir: &Path| format!("file://{}/home/objects", dir.display());
    let Some(mut machine) = Installed::prepare(objects) else { return };
    machine.cove.up();
    machine.cove.json(&["new", "shop"]);
    machine.cove.json(&["new", "old"]);
    machine.cove.json(&["rm", "old"]);
    let told = machine.script("uninstall.sh", &[]).success().stdout;
    assert!(told.contains("projects: 2, with those in the trash"), "{told}");
    machine.script("down.sh", &[]).success();
    assert!(machine.cove.ended().success());

    // What the environment names besides is not the store of this home.
    let other = machine.cove.dir.path().join("other");
    let other = format!("file://{}", other.display());
    machine.keeps(&[("COVE_OBJECTS", &other)], "projects: 2, with those in the trash");
    assert!(!machine.cove.dir.path().join("other").exists(), "nothing is begun elsewhere");

    machine.script("uninstall.sh", &[("CONFIRM", "yes"), ("DISCARD", "yes")]).success();
    assert!(!machine.is_installed());
}

#[test]
fn what_nobody_lists_is_not_deleted() {
    let objects = |dir: &Path| format!("file://{}/home/objects", dir.display());
    let Some(mut machine) = Installed::prepare(objects) else { return };
    let aside = machine.cove.make_dir("aside");
    machine.cove.up();
    machine.cove.json(&["new", "shop"]);
    assert!(machine.cove.stop().success());

    // A store that was in use before, of projects that were never on this machine.
    for name in ["state", "pool.img"] {
        fs::rename(machine.cove.home.join(name), aside.join(name)).unwrap();
    }
    machine.cove.objects = format!("file://{}/objects", machine.cove.dir.path().display());
    machine.cove.up();
    machine.cove.json(&["new", "other"]);
    assert!(machine.cove.stop().success());
    let former = machine.cove.home.join("objects");
    machine.keeps(&[], &format!("projects or volumes in {}: 1", former.display()));
    fs::remove_dir_all(former).unwrap();

    // The files of a project whose database is gone.
    fs::rename(machine.cove.home.join("state"), aside.join("other-state")).unwrap();
    machine.keeps(&[], "files of projects or volumes that are not listed: 1 in ");
}

#[test]
fn what_was_changed_just_before_is_saved_before_it_is_deleted() {
    let objects = |dir: &Path| format!("file://{}/objects", dir.display());
    let Some(mut machine) = Installed::prepare(objects) else { return };
    machine.cove.up();
    machine.cove.json(&["new", "shop"]);
    machine.cove.json(&["new", "old"]);
    machine.cove.json(&["rm", "old"]);
    machine.cove.json(&["wait", "shop"]);
    fs::write(machine.cove.path("shop").join("late"), "not looked at yet").unwrap();
    let told = machine.script("uninstall.sh", &[("CONFIRM", "yes")]).success();
    assert!(told.stdout.contains("waiting until shop is saved\n"), "{}", told.stdout);
    assert!(!machine.is_installed());
    assert!(machine.cove.ended().success());
    machine.cove.up();
    machine.cove.json(&["recover", "--take"]);
    assert_eq!(machine.cove.text(&["files", "cat", "shop:/late"]), "not looked at yet");
}

#[test]
fn a_volume_of_a_program_is_uninstalled_when_it_is_saved_elsewhere() {
    let objects = |dir: &Path| format!("file://{}/objects", dir.display());
    let Some(mut machine) = Installed::prepare(objects) else { return };
    machine.cove.up();
    let files = machine.make_volume("intake");
    fs::write(files.join("late"), "not looked at yet").unwrap();
    let told = machine.script("uninstall.sh", &[("CONFIRM", "yes")]).success();
    assert!(told.stdout.contains("what is no project's: volumes: 1\n"), "{}", told.stdout);
    assert!(!machine.is_installed());
    assert!(machine.cove.ended().success());
    machine.cove.up();
    machine.cove.json(&["recover", "--take"]);
    let volumes = machine.cove.json(&["volume", "ls"])["volumes"].clone();
    assert_eq!(volumes[0]["name"], "intake", "{volumes}");
    let files = volumes[0]["path"].as_str().unwrap();
    assert_eq!(fs::read_to_string(Path::new(files).join("late")).unwrap(), "not looked at yet");
}

#[test]
fn a_volume_of_a_program_that_is_saved_in_the_home_only_is_kept_as_one() {
    let objects = |dir: &Path| format!("file://{}/home/objects", dir.display());
    let Some(mut machine) = Installed::prepare(objects) else { return };
    machine.cove.up();
    machine.make_volume("intake");
    assert!(machine.cove.stop().success());
    let loss = "lost: volumes that are no project's: 1: they are saved in there only\n\nhint: ";
    machine.keeps(&[], loss);
}

#[test]
fn nothing_is_deleted_while_a_volume_is_mounted_elsewhere() {
    let objects = |dir: &Path| format!("file://{}/objects", dir.display());
    let Some(mut machine) = Installed::prepare(objects) else { return };
    machine.cove.up();
    let files = machine.make_volume("intake");
    let pod = machine.cove.make_dir("pod of a claim");
    mount_bind(&files, &pod).unwrap();
    let refused = |machine: &Installed| {
        let words = [("CONFIRM", "yes"), ("DISCARD", "yes")];
        let refused = machine.script("uninstall.sh", &words);
        assert_eq!(refused.code, 4, "{}{}", refused.stdout, refused.stderr);
        let place = format!("are mounted at {}\n", pod.display());
        assert!(refused.stderr.contains(&place), "{}", refused.stderr);
        assert!(refused.stderr.contains("NodeUnpublishVolume"), "{}", refused.stderr);
        assert!(machine.is_installed());
    };
    refused(&machine);
    assert!(machine.cove.stop().success(), "it was not stopped for what is refused");
    // The pool's own mount is gone, and the image is in use by the other one.
    assert!(!is_mounted(&machine.cove.home.join("pool")));
    let image = machine.cove.home.join("pool.img");
    assert_eq!(loop_devices_of(&image).len(), 1);
    refused(&machine);

    unmount(&pod, UnmountFlags::empty()).unwrap();
    machine.script("uninstall.sh", &[("CONFIRM", "yes"), ("DISCARD", "yes")]).success();
    assert!(!machine.is_installed());
    assert_eq!(loop_devices_of(&image), Vec::<PathBuf>::new());
}

#[test]
fn a_directory_that_is_no_home_of_cove_is_not_deleted() {
    let objects = |dir: &Path| format!("file://{}/objects", dir.display());
    let Some(machine) = Installed::prepare(objects) else { return };
    fs::create_dir(&machine.cove.home).unwrap();
    let refused = machine.script("uninstall.sh", &[("CONFIRM", "yes"), ("DISCARD", "yes")]);
    assert_eq!(refused.code, 4, "{}", refused.stdout);
    assert!(refused.stderr.contains("is not a home of Cove"), "{}", refused.stderr);
    assert!(machine.is_installed());
}
