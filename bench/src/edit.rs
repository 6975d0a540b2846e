//! Changes to files, as work makes them.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::corpus::{Found, spread};

/// What a small change is: so many files, and so many bytes of each; 0.4 MB in all.
pub const SMALL_CHANGE: (usize, usize) = (36, 11_400);

/// Text that no other seed gives and that compresses to about a half, as source does.
pub fn text(seed: u64, bytes: usize) -> Vec<u8> {
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut random = vec![0; bytes.div_ceil(2)];
    reader.fill(&mut random);
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble & 15)];
    let mut text: Vec<u8> =
        random.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect();
    text.truncate(bytes);
    text
}

/// Overwrites the beginning of `count` of the files from all over the corpus; says how many there
/// were to change.
pub fn change(
    root: &Path,
    files: &[Found],
    (count, bytes): (usize, usize),
    seed: u64,
) -> Result<usize> {
    // Of small files there are more; a change of 10,000 takes what there is.
    let chosen = match spread(files, count, bytes as u64) {
        large if large.len() < count => spread(files, count, 1),
        large => large,
    };
    for (n, file) in (0..).zip(&chosen) {
        let bytes = bytes.min(usize::try_from(file.bytes).unwrap_or(bytes));
        let path = root.join(&file.path);
        let open = File::options().write(true).open(&path);
        let open = open.with_context(|| format!("failed to open {}", path.display()))?;
        open.write_all_at(&text(seed << 32 | n, bytes), 0)?;
    }
    Ok(chosen.len())
}

/// Writes a file of Cove's user.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file =
        File::create(path).with_context(|| format!("failed to write {}", path.display()))?;
    file.write_all(bytes)?;
    std::os::unix::fs::chown(path, Some(1000), Some(1000))?;
    Ok(())
}

/// Moves a file or directory.
pub fn rename(root: &Path, from: &str, to: &str) -> Result<()> {
    fs::rename(root.join(from), root.join(to)).with_context(|| format!("failed to rename {from}"))
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn text_follows_from_its_seed_and_has_its_length() {
        assert_eq!(text(7, 5), text(7, 5));
        assert_ne!(text(7, 5), text(8, 5));
        assert_eq!(text(1, 4097).len(), 4097);
        assert!(text(3, 100).iter().all(u8::is_ascii_hexdigit));
    }
}
