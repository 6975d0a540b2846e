//! Times of files.

use std::fmt;

/// A file's time: seconds since 1970 and nanoseconds of the second.
///
/// Seconds span the whole `i64`, as btrfs keeps them; one number of nanoseconds
/// would overflow in 2262. As text it is RFC 3339 in UTC, and years outside
/// 0 to 9999 are clamped there, never in the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileTime {
    /// Seconds since 1970-01-01T00:00:00Z, negative before it.
    pub seconds: i64,
    /// 0 to 999,999,999, counted forward from `seconds`.
    pub nanoseconds: u32,
}

/// 0000-01-01T00:00:00Z and 9999-12-30T22:00:00Z, the last second that every
/// RFC 3339 reader in use accepts in any time zone.
const SHOWN: (i64, i64) = (-62_167_219_200, 253_402_207_200);

impl fmt::Display for FileTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanoseconds) = match self.seconds {
            s if s < SHOWN.0 => (SHOWN.0, 0),
            s if s > SHOWN.1 => (SHOWN.1, 0),
            s => (s, i32::try_from(self.nanoseconds.min(999_999_999)).unwrap_or(0)),
        };
        match jiff::Timestamp::new(seconds, nanoseconds) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => f.write_str("1970-01-01T00:00:00Z"),
        }
    }
}
