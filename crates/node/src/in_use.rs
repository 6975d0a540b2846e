//! Who has files of a volume open for writing.

use std::fs;
use std::path::Path;

use cove_content::volumes::VolumeError;
use cove_types::escape_bytes;

/// `O_WRONLY` and `O_RDWR` in the octal `flags:` of `/proc/<pid>/fdinfo/<fd>` (`fcntl.h`).
const WRITABLE: u32 = 0o3;

/// Refuses when a process has a file below `top` open for writing or mapped shared and writable.
///
/// Looks through `/proc` once; a process that ends or starts meanwhile may be missed, which a later
/// look at the replaced subvolume makes good.
///
/// # Errors
///
/// [`VolumeError::InUse`] names the first that was found.
pub(crate) fn refuse_writers(top: &Path) -> Result<(), VolumeError> {
    let Ok(processes) = fs::read_dir("/proc") else { return Ok(()) };
    let own = std::process::id();
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if pid == own {
            continue;
        }
        let found = open_for_writing(&process.path(), top).or_else(|| mapped(&process.path(), top));
        if let Some(path) = found {
            let program = fs::read(process.path().join("comm")).unwrap_or_default();
            let program = escape_bytes(program.trim_ascii());
            return Err(VolumeError::InUse { pid, program, path });
        }
    }
    Ok(())
}

/// Whether a process has anything at or below `top`: open in whatever way, mapped, or as its directory.
/// A process that cannot be looked at counts as none.
pub(crate) fn is_held(top: &Path) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let own = std::process::id().to_string();
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit()) && name != own;
    processes.flatten().filter(|process| process.file_name().to_str().is_some_and(is_process)).any(
        |process| {
            let process = process.path();
            let leads_there = |link: &Path| fs::read_link(link).is_ok_and(|to| to.starts_with(top));
            let mut descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            leads_there(&process.join("cwd"))
                || leads_there(&process.join("root"))
                || descriptors.any(|descriptor| leads_there(&descriptor.path()))
                || maps(&process, top, |_| true).is_some()
        },
    )
}

fn open_for_writing(process: &Path, top: &Path) -> Option<String> {
    let descriptors = fs::read_dir(process.join("fd")).ok()?;
    for descriptor in descriptors.flatten() {
        let Ok(target) = fs::read_link(descriptor.path()) else { continue };
        if !target.starts_with(top) {
            continue;
        }
        let about = process.join("fdinfo").join(descriptor.file_name());
        let flags = fs::read_to_string(about).unwrap_or_default();
        let flags = flags
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        let is_file = fs::metadata(descriptor.path()).is_ok_and(|metadata| metadata.is_file());
        if is_file && flags.is_some_and(|flags| flags & WRITABLE != 0) {
            return Some(shown(&target, top));
        }
    }
    None
}

/// What a process has mapped shared and writable below `top`.
fn mapped(process: &Path, top: &Path) -> Option<String> {
    maps(process, top, |rights| rights.get(1) == Some(&b'w') && rights.get(3) == Some(&b's'))
}

/// The first mapping of something below `top` with rights that `wanted` accepts.
fn maps(process: &Path, top: &Path, wanted: impl Fn(&[u8]) -> bool) -> Option<String> {
    let maps = fs::read(process.join("maps")).ok()?;
    let top_bytes = top.as_os_str().as_encoded_bytes();
    maps.split(|byte| *byte == b'\n').find_map(|line| {
        // address perms offset dev inode path
        let mut fields = line.splitn(2, |byte| *byte == b' ');
        let (_, rest) = (fields.next()?, fields.next()?);
        let at = rest.iter().position(|byte| *byte == b'/')?;
        let path = &rest[at..];
        (wanted(rest) && path.starts_with(top_bytes))
            .then(|| escape_bytes(path.strip_prefix(top_bytes).unwrap_or(path)))
    })
}

fn shown(target: &Path, top: &Path) -> String {
    let below = target.strip_prefix(top).unwrap_or(target);
    let below = below.strip_prefix("files").unwrap_or(below);
    escape_bytes(below.as_os_str().as_encoded_bytes())
}
