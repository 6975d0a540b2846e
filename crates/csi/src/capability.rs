//! How a volume is to be used.

use rustix::mount::MountFlags;

use crate::proto as pb;
use crate::proto::volume_capability::AccessType;
use crate::proto::volume_capability::access_mode::Mode;
use crate::status::{CallError, excerpt};

/// The options of a mount that whoever publishes a volume may ask for, as `/proc/self/mountinfo` writes them.
const OPTIONS: [(&str, MountFlags); 7] = [
    ("ro", MountFlags::RDONLY),
    ("nosuid", MountFlags::NOSUID),
    ("nodev", MountFlags::NODEV),
    ("noexec", MountFlags::NOEXEC),
    ("noatime", MountFlags::NOATIME),
    ("nodiratime", MountFlags::NODIRATIME),
    ("relatime", MountFlags::RELATIME),
];

/// The flag of a mount option; none when it is not one of those.
pub(crate) fn flag(option: &str) -> Option<MountFlags> {
    OPTIONS.iter().find(|(name, _)| *name == option).map(|(_, flag)| *flag)
}

/// How a volume is to be used: as files on one node, or by readers alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    /// What its mounts have; never both of `noatime` and `relatime`, of which a mount has one.
    pub(crate) flags: MountFlags,
    /// Whether one workload alone may have it.
    pub(crate) is_exclusive: bool,
}

/// Reads a capability. What is not said is [`CallError::Missing`], what is not to be had [`CallError::Invalid`].
pub(crate) fn access(
    field: &'static str,
    capability: Option<&pb::VolumeCapability>,
) -> Result<Access, CallError> {
    let invalid = |why: String| Err(CallError::Invalid { field, why });
    let Some(capability) = capability else { return Err(CallError::Missing { field }) };
    let mount = match &capability.access_type {
        None => return Err(CallError::Missing { field: "access_type" }),
        Some(AccessType::Block(_)) => {
            return invalid("a volume is mounted and is not a block device".to_owned());
        }
        Some(AccessType::Mount(mount)) => mount,
    };
    if !matches!(mount.fs_type.as_str(), "" | "btrfs") {
        let found = excerpt(&mount.fs_type);
        return invalid(format!("the file system is btrfs, found \"{found}\""));
    }
    if !mount.volume_mount_group.is_empty() {
        return invalid("a volume is not mounted for a group".to_owned());
    }
    let mut flags = MountFlags::empty();
    for option in &mount.mount_flags {
        match flag(option) {
            Some(flag) => flags |= flag,
            None => {
                let known = OPTIONS.map(|(name, _)| name).join(", ");
                let found = excerpt(option);
                return invalid(format!("a mount flag is one of {known}, found \"{found}\""));
            }
        }
    }
    let mode = capability.access_mode.as_ref().map_or(0, |mode| mode.mode);
    let (read_only, is_exclusive) = match Mode::try_from(mode) {
        Ok(Mode::Unknown) => return Err(CallError::Missing { field: "access_mode" }),
        Ok(Mode::SingleNodeWriter | Mode::SingleNodeMultiWriter) => (false, false),
        Ok(Mode::SingleNodeSingleWriter) => (false, true),
        Ok(Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly) => (true, false),
        Ok(mode @ (Mode::MultiNodeSingleWriter | Mode::MultiNodeMultiWriter)) => {
            let mode = mode.as_str_name();
            return invalid(format!("a volume is written on one node at a time, found {mode}"));
        }
        Err(_) => return invalid(format!("access mode {mode} is not known")),
    };
    // a mount has one of them, and one that was asked for with both is found again with that one
    if flags.contains(MountFlags::NOATIME) {
        flags.remove(MountFlags::RELATIME);
    }
    flags.set(MountFlags::RDONLY, read_only || flags.contains(MountFlags::RDONLY));
    Ok(Access { flags, is_exclusive })
}

/// Reads capabilities of which there is to be one at least.
pub(crate) fn check_all(capabilities: &[pb::VolumeCapability]) -> Result<(), CallError> {
    let field = "volume_capabilities";
    if capabilities.is_empty() {
        return Err(CallError::Missing { field });
    }
    capabilities.iter().try_for_each(|capability| access(field, Some(capability)).map(|_| ()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::proto::volume_capability::{AccessMode, BlockVolume, MountVolume};

    pub(crate) fn capability(mode: Mode, flags: &[&str]) -> pb::VolumeCapability {
        let mount_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        pb::VolumeCapability {
            access_mode: Some(AccessMode { mode: mode.into() }),
            access_type: Some(AccessType::Mount(MountVolume {
                mount_flags,
                ..MountVolume::default()
            })),
        }
    }

    fn read(capability: &pb::VolumeCapability) -> Result<Access, CallError> {
        access("volume_capability", Some(capability))
    }

    #[test]
    fn readers_mount_read_only_and_one_writer_is_alone() {
        let writer = read(&capability(Mode::SingleNodeWriter, &[])).unwrap();
        assert_eq!(writer, Access { flags: MountFlags::empty(), is_exclusive: false });
        let alone = read(&capability(Mode::SingleNodeSingleWriter, &["nodev"])).unwrap();
        assert_eq!(alone, Access { flags: MountFlags::NODEV, is_exclusive: true });
        for mode in [Mode::SingleNodeReaderOnly, Mode::MultiNodeReaderOnly] {
            let reader = read(&capability(mode, &[])).unwrap();
            assert_eq!(reader, Access { flags: MountFlags::RDONLY, is_exclusive: false });
        }
    }

    #[test]
    fn of_two_ways_to_note_when_something_is_read_one_is_asked_for() {
        for (options, flags) in [
            (&["noatime", "relatime"][..], MountFlags::NOATIME),
            (&["relatime", "noatime"], MountFlags::NOATIME),
            (&["relatime", "nodiratime"], MountFlags::RELATIME | MountFlags::NODIRATIME),
        ] {
            assert_eq!(read(&capability(Mode::SingleNodeWriter, options)).unwrap().flags, flags);
        }
    }

    #[test]
    fn what_is_not_to_be_had_is_invalid() {
        let mut block = capability(Mode::SingleNodeWriter, &[]);
        block.access_type = Some(AccessType::Block(BlockVolume {}));
        let other = |change: fn(&mut MountVolume)| {
            let mut mount = MountVolume::default();
            change(&mut mount);
            let mut capability = capability(Mode::SingleNodeWriter, &[]);
            capability.access_type = Some(AccessType::Mount(mount));
            capability
        };
        let mut unknown = capability(Mode::SingleNodeWriter, &[]);
        unknown.access_mode = Some(AccessMode { mode: 99 });
        for refused in [
            block,
            unknown,
            other(|mount| mount.fs_type = "ext4".to_owned()),
            other(|mount| mount.volume_mount_group = "1000".to_owned()),
            capability(Mode::SingleNodeWriter, &["suid"]),
            capability(Mode::MultiNodeSingleWriter, &[]),
            capability(Mode::MultiNodeMultiWriter, &[]),
        ] {
            let error = read(&refused).unwrap_err();
            assert!(matches!(error, CallError::Invalid { .. }), "{error}");
        }
        assert!(read(&other(|mount| mount.fs_type = "btrfs".to_owned())).is_ok());
    }

    #[test]
    fn what_is_not_said_is_missing() {
        let empty = pb::VolumeCapability::default();
        let no_mode =
            pb::VolumeCapability { access_mode: None, ..capability(Mode::SingleNodeWriter, &[]) };
        for missing in [None, Some(&empty), Some(&no_mode)] {
            let error = access("volume_capability", missing).unwrap_err();
            assert!(matches!(error, CallError::Missing { .. }), "{error}");
        }
        assert!(check_all(&[]).is_err());
    }
}
