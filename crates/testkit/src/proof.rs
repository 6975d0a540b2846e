//! How long random tests run, under which seed, and where they leave their figures.
//!
//! `make test` runs samples; `COVE_PROOF=1` (`make proof`) runs everything. A seed is printed
//! by whoever takes one, so that `COVE_SEED` runs the same test again.

use std::io::Write;

/// Whether the tests run at full length.
#[must_use]
pub fn is_full() -> bool {
    variable("COVE_PROOF").is_some_and(|value| value == "1")
}

/// `all` at full length, else `sample`.
#[must_use]
pub fn rounds(sample: usize, all: usize) -> usize {
    if is_full() { all } else { sample }
}

/// The seed of a random test: `COVE_SEED`, or else another one each time; printed.
#[must_use]
pub fn seed(test: &str) -> u64 {
    let given = variable("COVE_SEED").and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let mut bytes = [0; 8];
        if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).is_err() {
            return u64::from(std::process::id());
        }
        // short enough to be typed
        u64::from_le_bytes(bytes) >> 24
    });
    eprintln!("{test}: COVE_SEED={seed} runs this again");
    seed
}

/// Adds a figure to the report of `make proof`; prints it otherwise.
///
/// Each is one line of JSON in the file that `COVE_PROOF_FIGURES` names, appended whole.
pub fn figure(name: &str, value: impl std::fmt::Display) {
    eprintln!("{name}: {value}");
    let Some(path) = variable("COVE_PROOF_FIGURES") else { return };
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let line =
        format!("{{\"name\":\"{}\",\"value\":\"{}\"}}\n", quoted(name), quoted(&value.to_string()));
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        eprintln!("{path}: {error}");
    }
}

#[expect(clippy::disallowed_methods, reason = "tests may be told by the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Chance that a seed decides (xorshift64*): the same calls after the same seed.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Chance under a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`; 0 when that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        (self.bits() >> 11) % end.max(1)
    }

    /// A place in a list of that length; 0 when it is empty.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// One of several; `None` when there is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() {
            return None;
        }
        from.get(self.index(from.len()))
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.bits().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}
