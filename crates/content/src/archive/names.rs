//! Names in archives.

use cove_types::TreePath;

/// The path that a name in an archive means: `.` names and doubled slashes do not count, nor
/// does one at its end.
///
/// # Errors
///
/// It is empty or absolute, climbs, holds a NUL, or is over the limits of a [`TreePath`] or
/// deeper than `depth_max`; in words that go after "it".
pub(super) fn parse(name: &[u8], depth_max: usize) -> Result<TreePath, String> {
    match name.first() {
        None => return Err("it has no name".into()),
        Some(b'/') => return Err("its name is absolute".into()),
        Some(_) => {}
    }
    let names: Vec<&[u8]> =
        name.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    if names.len() > depth_max {
        return Err(format!("it is {} names deep, and at most {depth_max} are taken", names.len()));
    }
    TreePath::from_bytes(&names.join(&b'/')).map_err(|error| error.to_string())
}
