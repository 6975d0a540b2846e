//! On which disks a directory lies, as far as the kernel tells.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Through how many devices and image files a disk is looked for.
const DEPTH_MAX: u32 = 8;

/// Where the kernel tells of the devices of each btrfs that is mounted.
const BTRFS: &str = "/sys/fs/btrfs";

/// Names of whole disks, as in `/sys/block`; `None` where not all of them are known.
type Disks = Option<BTreeSet<OsString>>;

/// Whether the loss of one disk can take the store's directory and what lies in one of the others. One of
/// which nothing is known is not called safe.
pub(super) fn shares_a_disk(others: [&Path; 2], store: &Path) -> bool {
    is_shared(&others.map(|other| disks_of(other, DEPTH_MAX)), &disks_of(store, DEPTH_MAX))
}

fn is_shared(others: &[Disks], store: &Disks) -> bool {
    let Some(store) = store else { return true };
    let is_apart = |other: &Disks| other.as_ref().is_some_and(|other| other.is_disjoint(store));
    !others.iter().all(is_apart)
}

/// The disks under a file or directory: through partitions, mapped devices and image files, of a btrfs
/// all.
fn disks_of(place: &Path, depth: u32) -> Disks {
    let number = |path: &Path| fs::metadata(path).ok();
    let device = number(place)?.dev();
    if rustix::fs::major(device) != 0 {
        return disks_under(&device_directory(device), depth);
    }
    // btrfs gives each subvolume a number of its own, which is no device's
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let source = source_of(&mounts, &fs::canonicalize(place).ok()?)?;
    let device = number(&source)?.rdev();
    let devices = devices_beside(Path::new(BTRFS), device)?;
    all_under(&devices, depth)
}

/// What the kernel tells of a block device.
fn device_directory(device: u64) -> PathBuf {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}

/// The directories of all devices of the btrfs that has this one, in the directory that tells of each
/// btrfs; `None` where none has it, or one of them cannot be seen.
fn devices_beside(systems: &Path, device: u64) -> Option<Vec<PathBuf>> {
    let below = |dir: &Path| {
        let found = fs::read_dir(dir).ok()?;
        found.map(|one| Some(one.ok()?.path())).collect::<Option<Vec<_>>>()
    };
    let wanted = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let is_wanted = |device: &PathBuf| {
        fs::read_to_string(device.join("dev")).is_ok_and(|number| number.trim_end() == wanted)
    };
    // what tells of no system, as the features of all of them, has no devices
    let of_each = below(systems)?.into_iter().filter_map(|system| {
        Some((below(&system.join("devices"))?, below(&system.join("devinfo"))?.len()))
    });
    let mut of_each = of_each.filter(|(devices, _)| devices.iter().any(is_wanted));
    // one that is missing has its number only
    of_each.next().filter(|(devices, known)| devices.len() == *known).map(|(devices, _)| devices)
}

/// The disks under several block devices.
fn all_under(devices: &[PathBuf], depth: u32) -> Disks {
    let disks = devices.iter().map(|device| disks_under(device, depth));
    Some(disks.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The disks under a block device, by its directory in `/sys`.
fn disks_under(device: &Path, depth: u32) -> Disks {
    let depth = depth.checked_sub(1)?;
    let device = fs::canonicalize(device).ok()?;
    if device.join("partition").exists() {
        return disks_under(device.parent()?, depth);
    }
    if let Ok(image) = fs::read(device.join("loop/backing_file")) {
        let image = image.strip_suffix(b"\n").unwrap_or(&image).to_vec();
        return disks_of(Path::new(&OsString::from_vec(image)), depth);
    }
    let below = fs::read_dir(device.join("slaves")).into_iter().flatten().flatten();
    let below: Vec<PathBuf> = below.map(|slave| slave.path()).collect();
    match below.is_empty() {
        true => Some(BTreeSet::from([device.file_name()?.to_owned()])),
        false => all_under(&below, depth),
    }
}

/// What is mounted where a path lies, by the lines of proc_pid_mountinfo(5): the fifth field is where,
/// the second after the hyphen is what.
fn source_of(mounts: &str, path: &Path) -> Option<PathBuf> {
    let mounted = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let at = unescaped(before.split(' ').nth(4)?);
        let source = unescaped(after.split(' ').nth(1)?);
        path.starts_with(&at).then_some((at.components().count(), source))
    });
    // of two at one place the later one is seen
    mounted.max_by_key(|(depth, _)| *depth).map(|(_, source)| source)
}

/// A field of mountinfo: blanks and backslashes stand there as three octal digits.
fn unescaped(field: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(|_| first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks(names: &[&str]) -> Disks {
        Some(names.iter().map(OsString::from).collect())
    }

    #[test]
    fn only_a_store_whose_disks_are_known_and_others_is_on_another_disk() {
        let shared = |home: Disks, pool: Disks, store: Disks| is_shared(&[home, pool], &store);
        let one = || disks(&["sda"]);
        assert!(shared(one(), one(), one()));
        assert!(shared(disks(&["sda", "sdb"]), disks(&["sdd"]), disks(&["sdb", "sdc"])));
        assert!(!shared(one(), one(), disks(&["sdb"])));
        assert!(shared(one(), disks(&["sdb"]), disks(&["sdb"])), "the files are in the pool");
        assert!(shared(one(), one(), None), "nothing is known of the store's");
        assert!(shared(None, one(), disks(&["sdb"])), "nothing is known of the home's");
        assert!(shared(one(), None, disks(&["sdb"])), "nothing is known of the pool's");
    }

    #[test]
    fn a_btrfs_is_on_all_of_its_devices() {
        let sys = tempfile::tempdir().unwrap();
        let add = |system: &str, device: &str, number: &str| {
            let devices = sys.path().join(system).join("devices").join(device);
            fs::create_dir_all(&devices).unwrap();
            fs::write(devices.join("dev"), format!("{number}\n")).unwrap();
            fs::create_dir_all(sys.path().join(system).join("devinfo").join(number)).unwrap();
        };
        fs::create_dir(sys.path().join("features")).unwrap();
        add("one", "sda", "8:0");
        add("other", "sdb", "8:16");
        add("other", "sdc", "8:32");
        let on = |minor| {
            let devices = devices_beside(sys.path(), rustix::fs::makedev(8, minor))?;
            all_under(&devices, DEPTH_MAX)
        };
        assert_eq!(on(0), disks(&["sda"]));
        assert_eq!(on(16), disks(&["sdb", "sdc"]));
        assert_eq!(on(32), disks(&["sdb", "sdc"]));
        assert_eq!(on(48), None, "no btrfs is known that has it");
        fs::create_dir(sys.path().join("other/devinfo/3")).unwrap();
        assert_eq!(on(16), None, "one of its devices is missing");
    }

    #[test]
    fn what_is_mounted_at_a_path_is_the_nearest_above_it() {
        let mounts = "22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw\n\
            30 22 0:45 /@data /data rw shared:2 - btrfs /dev/sdb1 rw,subvol=/@data\n\
            31 22 8:33 / /data/my\\040disk rw - ext4 /dev/sdc1 rw\n";
        let source = |path: &str| source_of(mounts, Path::new(path));
        assert_eq!(source("/home/ann"), Some("/dev/sda2".into()));
        assert_eq!(source("/data"), Some("/dev/sdb1".into()));
        assert_eq!(source("/database"), Some("/dev/sda2".into()));
        assert_eq!(source("/data/my disk/objects"), Some("/dev/sdc1".into()));
    }

    #[test]
    fn directories_of_one_file_system_share_a_disk() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert!(shares_a_disk([one.path(); 2], other.path()));
        assert!(shares_a_disk([one.path(); 2], Path::new("/nowhere")));
    }
}
