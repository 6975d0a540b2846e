use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;

#[test]
fn a_wrong_checksum_is_of_the_file_and_too_many_open_files_are_not() {
    let error = |errno: rustix::io::Errno| StoreError::Read {
        path: TreePath::parse("files/a").unwrap(),
        source: errno.into(),
    };
    for errno in [rustix::io::Errno::IO, rustix::io::Errno::UCLEAN, rustix::io::Errno::BADMSG] {
        assert!(error(errno).is_unreadable(), "{errno}");
    }
    for errno in [rustix::io::Errno::MFILE, rustix::io::Errno::NOMEM, rustix::io::Errno::STALE] {
        assert!(!error(errno).is_unreadable(), "{errno}");
    }
}

mod live {
    use std::sync::Arc;

    use cove_btrfs::{Access, LoopPool, Pool, SubvolumePath};
    use cove_env::Env;
    use cove_objects::MemoryStore;
    use cove_types::{OperationId, VolumeId};

    use super::*;
    use crate::chunks::{Chunks, PackCache};
    use crate::incremental::{IncrementalError, OldTree, store_changes};
    use crate::locations::Locations;
    use crate::remote::Remote;
    use crate::restore::strip;
    use crate::root::NotCaptured;

    fn snapshot(n: u8) -> SubvolumePath {
        SubvolumePath::Stored(volume(), OperationId([n; 16]))
    }

    fn volume() -> VolumeId {
        "v".parse().unwrap()
    }

    /// Changes a byte of the file system's own file where `bytes` lie, as a failing disk does.
    fn damage(image: &std::path::Path, bytes: &[u8]) {
        let image = File::options().read(true).write(true).open(image).unwrap();
        let mut block = vec![0; 1 << 20];
        for at in (0..image.metadata().unwrap().len()).step_by(block.len()) {
            let read = image.read_at(&mut block, at).unwrap();
            let found = block[..read].chunks(4096).position(|page| page.starts_with(bytes));
            if let Some(page) = found {
                let place = at + page as u64 * 4096 + 9;
                image.write_all_at(&[block[page * 4096 + 9] ^ 1], place).unwrap();
                image.sync_all().unwrap();
                return;
            }
        }
        panic!("the file is nowhere on the disk");
    }

    #[test]
    fn a_file_that_the_disk_does_not_give_is_named_and_all_else_is_stored() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: a live test needs root");
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let pool = LoopPool::open(home.path(), 512 << 20).unwrap();
        let live = SubvolumePath::Volume(volume());
        pool.create(&live, &volume()).unwrap();
        let files = pool.absolute(&live).join("files");
        std::fs::create_dir(&files).unwrap();
        // does not compress, so that it lies on the disk as it is
        let mut lost = vec![0; 300 << 10];
        blake3::Hasher::new().update(b"lost").finalize_xof().fill(&mut lost);
        std::fs::write(files.join("lost"), &lost).unwrap();
        std::fs::write(files.join("whole"), "whole").unwrap();
        pool.snapshot(&live, &snapshot(1), Access::ReadOnly, &volume()).unwrap();

        let runtime = tokio::runtime::Runtime::new().unwrap();
        let env = Env::system();
        let store = Arc::new(MemoryStore::new(env.clone()));
        let remote = Remote::new(store, runtime.handle().clone(), "t".parse().unwrap());
        let known = Chunks::new(remote, Arc::new(PackCache::new(None)), Locations::default());
        let (volume, progress) = (volume(), Progress::default());
        let mut session = Session::new(&known, &env, &volume, [7; 8], Progress::default());
        let dir = pool.open(&snapshot(1)).unwrap();
        let before = store_tree(&dir, &mut session, &progress).unwrap();
        drop(dir);
        assert_eq!((before.root.counts.entries, &before.not_captured[..]), (3, &[][..]));

        // touched, so that the changes name it, and then the disk fails
        std::fs::set_permissions(
            files.join("lost"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        File::options().append(true).open(files.join("lost")).unwrap().set_len(310 << 10).unwrap();
        pool.snapshot(&live, &snapshot(2), Access::ReadOnly, &volume).unwrap();
        damage(&home.path().join("pool.img"), &lost[256 << 10..(256 << 10) + 64]);

        let dir = pool.open(&snapshot(2)).unwrap();
        let changes = pool.changes(&snapshot(1), &snapshot(2)).unwrap();
        let old = OldTree { root: &before.root.digest, not_captured: &[] };
        let names = |inode| pool.names_of_inode(&snapshot(2), inode);
        let refused = store_changes(&changes, &dir, &names, &known, old, &mut session, &progress)
            .unwrap_err();
        assert!(matches!(refused, IncrementalError::NeedsFullStore { .. }), "{refused:?}");
        let after = store_tree(&dir, &mut session, &progress).unwrap();
        assert_eq!(after.root.counts.entries, 2);
        let path = "files/lost".to_owned();
        let named = NotCapturedPath { path, what: lack::UNREADABLE.into() };
        assert_eq!(after.not_captured, std::slice::from_ref(&named));

        // a copy of that snapshot holds no more than its tree
        let copy = SubvolumePath::Volume("copy".parse().unwrap());
        pool.snapshot(&snapshot(2), &copy, Access::ReadWrite, &volume).unwrap();
        let lacks = NotCaptured::new(vec![named]).0;
        assert!(strip(&pool.open(&copy).unwrap(), &lacks).unwrap());
        let copied = pool.absolute(&copy).join("files");
        assert!(!copied.join("lost").exists() && copied.join("whole").exists());
        drop(dir);
        pool.close().unwrap();
    }
}
