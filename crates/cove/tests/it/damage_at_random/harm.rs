//! What may happen to a file of a store or a home.

use std::fs;
use std::path::{Path, PathBuf};

use cove_testkit::proof::Chance;

/// What happens to it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Harm {
    Removed,
    /// Only so many of its bytes are left.
    Cut(u64),
    /// One byte is another.
    Flipped {
        at: u64,
        mask: u8,
    },
}

impl Harm {
    /// One of them, for a file of so many bytes.
    pub(super) fn at_random(chance: &mut Chance, bytes: u64) -> Self {
        match chance.below(6) {
            0 => Self::Removed,
            1 => Self::Cut(chance.below(bytes)),
            _ => {
                let mask = 1 << chance.below(8);
                Self::Flipped { at: chance.below(bytes), mask }
            }
        }
    }

    /// Does it to a file that is there.
    pub(super) fn to(self, place: &Path) {
        let mut bytes = fs::read(place).unwrap();
        match self {
            Self::Removed => return fs::remove_file(place).unwrap(),
            Self::Cut(left) => bytes.truncate(usize::try_from(left).unwrap()),
            Self::Flipped { at, mask } => bytes[usize::try_from(at).unwrap()] ^= mask,
        }
        fs::write(place, bytes).unwrap();
    }
}

/// Harms a file until it is dropped.
pub(super) struct Harmed {
    place: PathBuf,
    bytes: Vec<u8>,
}

impl Harmed {
    pub(super) fn new(place: &Path, harm: Harm) -> Self {
        let bytes = fs::read(place).unwrap();
        harm.to(place);
        Self { place: place.to_owned(), bytes }
    }
}

impl Drop for Harmed {
    fn drop(&mut self) {
        fs::write(&self.place, &self.bytes).unwrap();
    }
}
