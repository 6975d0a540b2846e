use std::fs::{self, File};
use std::io::{ErrorKind, Write};

use super::*;

fn disk() -> Option<FaultyDisk> {
    FaultyDisk::mount()
}

#[test]
fn it_does_what_a_store_in_a_directory_asks() {
    let Some(disk) = disk() else { return };
    let root = disk.path();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/b/one"), vec![7; 300_000]).unwrap();
    assert_eq!(fs::read(root.join("a/b/one")).unwrap(), vec![7; 300_000]);
    assert_eq!(fs::read(disk.behind().join("a/b/one")).unwrap(), vec![7; 300_000]);
    fs::write(root.join("two"), "two").unwrap();
    let cwd = rustix::fs::CWD;
    let keep = rustix::fs::RenameFlags::NOREPLACE;
    let (two, one) = (root.join("two"), root.join("a/b/one"));
    let refused = rustix::fs::renameat_with(cwd, &two, cwd, &one, keep);
    assert_eq!(refused, Err(rustix::io::Errno::EXIST));
    fs::rename(root.join("a"), root.join("c")).unwrap();
    fs::rename(&two, root.join("c/b/one")).unwrap();
    assert_eq!(fs::read(root.join("c/b/one")).unwrap(), b"two");
    File::open(root.join("c/b")).unwrap().sync_all().unwrap();
    let names: Vec<_> = fs::read_dir(&root).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(names, ["c"]);
    fs::remove_dir_all(root.join("c")).unwrap();
    assert_eq!(fs::metadata(root.join("c")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn an_fsync_that_fails_has_lost_what_was_written_since_the_last() {
    let Some(disk) = disk() else { return };
    let place = disk.path().join("file");
    let mut file = File::create(&place).unwrap();
    file.write_all(b"kept").unwrap();
    file.sync_all().unwrap();
    file.write_all(b"lost").unwrap();
    disk.fail_after(Step::Sync, 0, ErrorKind::Other, When::BeforeEffect);
    assert_eq!(file.sync_all().unwrap_err().raw_os_error(), Some(5));
    file.sync_all().unwrap();
    assert_eq!(fs::read(&place).unwrap(), b"kept\0\0\0\0");
    assert_eq!(disk.failed(), 1);
}

#[test]
fn a_step_fails_when_it_is_to_and_no_other_does() {
    let Some(disk) = disk() else { return };
    let root = disk.path();
    disk.fail_after(Step::Create, 1, ErrorKind::StorageFull, When::BeforeEffect);
    fs::write(root.join("one"), "one").unwrap();
    assert_eq!(fs::write(root.join("two"), "two").unwrap_err().kind(), ErrorKind::StorageFull);
    fs::write(root.join("two"), "two").unwrap();
    disk.fail_after(Step::Rename, 0, ErrorKind::Other, When::AfterEffect);
    fs::rename(root.join("one"), root.join("three")).unwrap_err();
    assert_eq!(fs::read(root.join("three")).unwrap(), b"one");
    disk.fail_changes(ErrorKind::ReadOnlyFilesystem);
    let refused = fs::remove_file(root.join("three")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    let file = File::options().write(true).open(root.join("three")).unwrap();
    assert_eq!(file.set_len(0).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    let refused = fs::set_permissions(root.join("three"), mode).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(fs::read(root.join("three")).unwrap(), b"one");
    disk.heal();
    disk.hang();
    std::thread::scope(|scope| {
        let read = scope.spawn(|| fs::read(root.join("three")));
        crate::wait_until(|| disk.faults.state().waiting == 1);
        assert!(!read.is_finished());
        disk.heal();
        assert_eq!(read.join().unwrap().unwrap(), b"one");
    });
}
