//! Time and chance as parameters.
//!
//! Whoever needs a moment or fresh random bits takes an [`Env`]; tests give one
//! whose clock they move and whose chance has a seed.
//!
//! **Invariant:** this is the one place below the programs that asks the system
//! for the time or for random bytes.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cove_types::{EntryId, IndexId, OperationId, SessionId};

/// What the time is.
pub trait Clock: Send + Sync {
    /// The wall clock. It may jump; nothing that keeps data safe depends on it.
    fn now(&self) -> jiff::Timestamp;

    /// Time since the machine started, suspends included (`CLOCK_BOOTTIME`). Never goes back.
    fn since_boot(&self) -> Duration;
}

/// Where random bits come from.
pub trait Chance: Send + Sync {
    /// Fills `bytes` with random bits fit for names that nobody may guess or repeat.
    fn fill(&self, bytes: &mut [u8]);
}

/// Time and chance, as handed to everything that needs them. Cloning is cheap.
#[derive(Clone)]
pub struct Env {
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
}

impl Env {
    /// The system's own clock and randomness.
    #[must_use]
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock), chance: Arc::new(SystemChance) }
    }

    /// A clock and chance of the caller's.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, chance: Arc<dyn Chance>) -> Self {
        Self { clock, chance }
    }

    /// The wall clock.
    #[must_use]
    pub fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// Time since the machine started, suspends included.
    #[must_use]
    pub fn since_boot(&self) -> Duration {
        self.clock.since_boot()
    }

    /// `N` random bytes.
    #[must_use]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.chance.fill(&mut bytes);
        bytes
    }

    /// A fresh operation id of a caller that had last seen `seq`.
    #[must_use]
    pub fn operation_id(&self, seq: u32) -> OperationId {
        OperationId::new(seq, self.random())
    }

    /// A fresh session id.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        SessionId(self.random())
    }

    /// A fresh index id.
    #[must_use]
    pub fn index_id(&self) -> IndexId {
        IndexId(self.random())
    }

    /// A fresh entry id that belongs to no caller's operation.
    #[must_use]
    pub fn entry_id(&self) -> EntryId {
        EntryId::derive(&OperationId(self.random()), "own")
    }
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Env")
    }
}

/// The system's clocks.
struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn since_boot(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}

/// `getrandom(2)`.
struct SystemChance;

impl Chance for SystemChance {
    fn fill(&self, bytes: &mut [u8]) {
        let mut filled = 0;
        while filled < bytes.len() {
            let rest = &mut bytes[filled..];
            match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("the kernel gives random bytes: {error}"),
            }
        }
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    wall_us: AtomicI64,
    boot_us: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `now`, an hour after boot.
    #[must_use]
    pub fn new(now: jiff::Timestamp) -> Self {
        Self {
            wall_us: AtomicI64::new(now.as_microsecond()),
            boot_us: AtomicU64::new(3_600_000_000),
        }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.boot_us.fetch_add(us, Ordering::SeqCst);
        self.wall_us.fetch_add(i64::try_from(us).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.wall_us.load(Ordering::SeqCst))
            .expect("a test keeps its clock within jiff's years")
    }

    fn since_boot(&self) -> Duration {
        Duration::from_micros(self.boot_us.load(Ordering::SeqCst))
    }
}

/// Chance that a seed decides (xorshift64*): repeatable, not secret.
#[derive(Debug)]
pub struct SeededChance(Mutex<u64>);

impl SeededChance {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1))
    }
}

impl Chance for SeededChance {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().expect("no holder of this lock panics");
        for chunk in bytes.chunks_mut(8) {
            *state ^= *state >> 12;
            *state ^= *state << 25;
            *state ^= *state >> 27;
            let word = state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}
