use super::*;
use crate::mounts::parse;

fn target(home: &Path, name: &str) -> Target {
    Target::get("target_path", home.join(name).to_str().unwrap()).unwrap()
}

#[test]
fn the_directories_before_the_last_name_are_followed() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    std::fs::create_dir(home.join("real")).unwrap();
    std::os::unix::fs::symlink("real", home.join("link")).unwrap();
    assert_eq!(target(&home, "link/target").point, home.join("real/target"));
    assert!(target(&home, "link/target").ensure_directory("target_path").unwrap());
    assert!(!target(&home, "real/target").ensure_directory("target_path").unwrap());
    assert!(target(&home, "real/target").is_directory().unwrap());
    assert!(!target(&home, "link").is_directory().unwrap());
}

#[test]
fn a_path_that_names_no_place_is_invalid_and_one_without_a_directory_is_none() {
    for path in ["", "/", "a/b", "/a/..", "/tmp/.", "/tmp/a\0b"] {
        let refused = Target::find("target_path", path).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{path:?}");
    }
    assert!(Target::find("target_path", "/nowhere/at/all").unwrap().is_none());
    let refused = Target::get("target_path", "/nowhere/at/all").unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
}

#[test]
fn a_failed_mount_leaves_no_directory_and_an_older_one_stays() {
    let home = tempfile::tempdir().unwrap();
    let volume = "vol-a".parse().unwrap();
    let access = Access { flags: MountFlags::empty(), is_exclusive: false };
    let nowhere = home.path().join("nowhere");
    std::fs::create_dir(home.path().join("old")).unwrap();
    for (name, stays) in [("new", false), ("old", true)] {
        let target = target(home.path(), name);
        let refused = target.publish("target_path", &volume, &nowhere, access, &[]).unwrap_err();
        // it was deleted after the Hub had told where its files are
        assert_eq!(refused.code(), tonic::Code::NotFound, "{refused}");
        assert_eq!(target.is_directory().unwrap(), stays);
    }
}

#[test]
fn nothing_is_mounted_over_files_or_in_a_directory_of_coves() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    let volume = "vol-a".parse().unwrap();
    let access = Access { flags: MountFlags::empty(), is_exclusive: false };
    for name in ["full/mine", "own/below", "empty", "volume"] {
        std::fs::create_dir_all(home.join(name)).unwrap();
    }
    std::os::unix::fs::symlink("own", home.join("link")).unwrap();
    let (files, own) = (home.join("volume"), [home.join("none"), home.join("own")]);
    let own = [own[0].as_path(), own[1].as_path()];
    let publish = |name: &str| {
        let target = Target::get("target_path", home.join(name).to_str().unwrap())?;
        target.publish("target_path", &volume, &files, access, &own)
    };
    for (name, code, why) in [
        ("full", tonic::Code::FailedPrecondition, "has files"),
        ("own", tonic::Code::InvalidArgument, "Cove keeps its own"),
        ("own/new", tonic::Code::InvalidArgument, "Cove keeps its own"),
        ("link/new", tonic::Code::InvalidArgument, "Cove keeps its own"),
        ("own/below/new", tonic::Code::InvalidArgument, "Cove keeps its own"),
    ] {
        let refused = publish(name).unwrap_err();
        assert_eq!(refused.code(), code, "{name}: {refused}");
        let text = refused.to_string();
        assert!(text.starts_with("field \"target_path\": "), "{name}: {text}");
        assert!(text.contains(why), "{name}: {text}");
    }
    assert!(home.join("full/mine").exists());
    assert!(!home.join("own/new").exists());
    let unpublish = |name: &str| target(&home, name).unpublish("target_path", Some(&volume), &own);
    assert_eq!(unpublish("own/below").unwrap_err().code(), tonic::Code::InvalidArgument);
    assert!(home.join("own/below").exists());
    let inside = home.join("pool/volumes/vol-b/files/empty");
    std::fs::create_dir_all(&inside).unwrap();
    let refused = unpublish("pool/volumes/vol-b/files/empty").unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.to_string().ends_with("/files/empty is in a volume"), "{refused}");
    assert!(inside.exists());
    // what is gone is gone
    unpublish("own/new").unwrap();
    unpublish("empty").unwrap();
    assert!(!home.join("empty").exists());
}

#[test]
fn what_the_kernel_does_not_let_be_made_or_removed_is_the_callers_to_change() {
    let volume = "vol-a".parse().unwrap();
    for path in ["/proc/x", "/proc/self/x", "/sys/x"] {
        let target = Target::get("target_path", path).unwrap();
        let refused = target.ensure_directory("target_path").unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{path}: {refused}");
        assert!(refused.to_string().starts_with("field \"target_path\": "), "{refused}");
        target.unpublish("target_path", Some(&volume), &[]).unwrap();
    }
    for path in ["/proc/self/cwd", "/proc/self/fd", "/sys/kernel"] {
        let target = Target::get("target_path", path).unwrap();
        let refused = target.unpublish("target_path", Some(&volume), &[]).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{path}: {refused}");
        assert!(refused.to_string().starts_with("field \"target_path\": "), "{refused}");
    }
}

/// Asks for `vol-a` at `/a`.
fn ask(mounted: &str, flags: MountFlags, is_exclusive: bool) -> Result<bool, tonic::Code> {
    let pool = "9 1 0:1 / /pool rw - btrfs d rw\n";
    let mounts = parse(format!("{pool}{mounted}").as_bytes());
    let volume = "vol-a".parse().unwrap();
    let files = Place::through(&mounts, 9, Path::new("/pool/volumes/vol-a/files")).unwrap();
    let access = Access { flags, is_exclusive };
    let place = Path::new("/a");
    let top = shown(&mounts, 1, place);
    is_published(&mounts, top, place, &volume, &files, access).map_err(|error| error.code())
}

fn at(volume: &str, point: &str, options: &str) -> String {
    format!("1 2 0:1 /volumes/{volume}/files {point} {options} - btrfs d rw\n")
}

#[test]
fn a_volume_is_published_as_it_is_mounted() {
    let none = MountFlags::empty();
    assert_eq!(ask("", none, true), Ok(false));
    assert_eq!(ask(&at("vol-a", "/a", "rw,noatime"), none, true), Ok(true));
    let there = Err(tonic::Code::AlreadyExists);
    assert_eq!(ask(&at("vol-a", "/a", "rw"), MountFlags::RDONLY, false), there);
    assert_eq!(ask(&at("vol-a", "/a", "ro"), none, false), there);
    assert_eq!(ask(&at("vol-a", "/a", "rw"), MountFlags::NODEV, false), there);
    assert_eq!(ask(&at("vol-b", "/a", "rw"), none, false), there);
    assert_eq!(ask(&at("vol-a", "/b", "rw"), none, false), Ok(false));
    let elsewhere = Err(tonic::Code::FailedPrecondition);
    assert_eq!(ask(&at("vol-a", "/b", "rw"), none, true), elsewhere);
    assert_eq!(ask(&at("vol-b", "/b", "rw"), none, true), Ok(false));
    // of the same id, and of another pool
    let other = at("vol-a", "/a", "rw").replace("0:1", "0:2");
    assert_eq!(ask(&other, none, false), there);
    assert_eq!(ask(&other.replace("/a ", "/b "), none, true), Ok(false));
    let deleted = at("vol-a", "/a", "rw").replace("/files", "/files//deleted");
    assert_eq!(ask(&deleted, none, false), there);
}

/// What is next for `vol-a` to be gone from `/a`, or for an id that is none. Each mount is on the one before, and the
/// last one shows.
fn next(mounted: &[&str], is_volume: bool) -> Result<Step, tonic::Code> {
    let on = |(id, line): (usize, &&str)| line.replacen("1 2", &format!("{} {id}", id + 1), 1);
    let text: String = mounted.iter().enumerate().map(on).collect();
    let mounts = parse(text.as_bytes());
    let top = mounts.last().and_then(|last| shown(&mounts, last.id, Path::new("/a")));
    let volume = is_volume.then(|| "vol-a".parse().unwrap());
    step(&mounts, top, volume.as_ref()).map_err(|error| error.code())
}

#[test]
fn a_volume_is_unpublished_where_it_shows_and_nothing_else_is() {
    let (own, other) = (at("vol-a", "/a", "rw"), at("vol-b", "/a", "rw"));
    let elsewhere = at("vol-a", "/b", "rw");
    assert_eq!(next(&[], true), Ok(Step::Remove));
    assert_eq!(next(&[&elsewhere], true), Ok(Step::Remove));
    assert_eq!(next(&[&other, &own], true), Ok(Step::Unmount));
    for top in [&other, "1 2 0:1 / /a rw - tmpfs t rw\n"] {
        assert_eq!(next(&[top], true), Ok(Step::Leave));
        assert_eq!(next(&[&elsewhere, top], true), Ok(Step::Leave));
        // whoever is told that it is gone gives its place away, and what is written there is the volume's
        assert_eq!(next(&[&own, top], true), Err(tonic::Code::FailedPrecondition));
    }
    // what is mounted over a directory above hides it
    assert_eq!(next(&[&own, "1 2 0:1 / / rw - tmpfs t rw\n"], true), Ok(Step::Remove));
}

#[test]
fn an_id_that_is_none_unmounts_nothing() {
    let trash = "/trash/00000000000000000000000000000001/files";
    let replaced = format!("1 2 0:1 {trash} /a rw - btrfs d rw\n");
    assert_eq!(next(&[&replaced], true), Ok(Step::Unmount));
    assert_eq!(next(&[&replaced], false), Ok(Step::Leave));
    assert_eq!(next(&[&at("vol-a", "/a", "rw")], false), Ok(Step::Leave));
    assert_eq!(next(&[], false), Ok(Step::Remove));
}

/// A place whose path breaks a line, and one that is longer than a refusal.
fn awkward(home: &Path) -> [PathBuf; 2] {
    [home.join("a\nb"), (0..5).fold(home.to_owned(), |path, _| path.join("d".repeat(250)))]
}

#[test]
fn a_refusal_that_names_a_place_is_one_line_and_has_its_reason() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    let volume = "vol-a".parse().unwrap();
    let access = Access { flags: MountFlags::empty(), is_exclusive: false };
    for path in awkward(&home) {
        std::fs::create_dir_all(path.join("mine")).unwrap();
        let target = Target::get("target_path", path.to_str().unwrap()).unwrap();
        let nowhere = target.publish("target_path", &volume, &home, access, &[]).unwrap_err();
        let full = target.unpublish("target_path", Some(&volume), &[]).unwrap_err();
        let own = target.refuse_within("target_path", &[&home]).unwrap_err();
        for (refused, why) in [
            (nowhere, "has files, and a volume is mounted on an empty directory"),
            (full, "has files that are of no volume"),
            (own, "where Cove keeps its own"),
        ] {
            let told = tonic::Status::from(refused);
            assert!(told.message().ends_with(why), "{}", told.message());
            assert!(!told.message().contains('\n'), "{}", told.message());
        }
    }
}

mod live {
    use super::*;

    /// Takes away what a test that fails leaves mounted.
    struct Unmount(PathBuf);

    impl Drop for Unmount {
        fn drop(&mut self) {
            while rustix::mount::unmount(&self.0, UnmountFlags::DETACH).is_ok() {}
        }
    }

    #[test]
    fn what_is_replaced_or_deleted_while_it_is_mounted_does_not_stay_mounted() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: a live test needs root");
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let volume: VolumeId = "vol-a".parse().unwrap();
        let files = home.join("volumes/vol-a/files");
        let moved = home.join("trash/00000000000000000000000000000001");
        std::fs::create_dir(home.join("trash")).unwrap();
        let target = target(&home, "target");
        target.ensure_directory("target_path").unwrap();
        let _unmount = Unmount(home.join("target"));
        let replace = || std::fs::rename(home.join("volumes/vol-a"), &moved).unwrap();
        let delete = || std::fs::remove_dir(&files).unwrap();
        let leave = || {};
        let changes: [&dyn Fn(); 3] = [&leave, &delete, &replace];
        for (n, change) in changes.into_iter().enumerate() {
            std::fs::create_dir_all(&files).unwrap();
            let place = place_of(&target.mounts().unwrap(), &files).unwrap().unwrap();
            let mount = target.mount(&volume, &files, MountFlags::empty()).unwrap();
            change();
            let confirmed = target.confirm(&volume, &place, mount);
            if n == 0 {
                confirmed.unwrap();
                assert_eq!(target.shows(&files).unwrap(), Some(true));
                target.unmount().unwrap();
            } else {
                assert_eq!(confirmed.unwrap_err().code(), tonic::Code::Aborted);
            }
            assert_eq!(target.shows(&files).unwrap(), None);
        }
    }
}
