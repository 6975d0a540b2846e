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

/// The seconds of 0000-01-01T00:00:00Z and of 9999-12-31T23:59:59Z. [`jiff::Timestamp`]
/// ends 26 hours before the second, so that any time zone can show it; a civil time does not.
const SHOWN: (i64, i64) = (-62_167_219_200, 253_402_300_799);

impl fmt::Display for FileTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.nanoseconds.min(999_999_999);
        let (seconds, nanoseconds) = match self.seconds {
            s if s < SHOWN.0 => (SHOWN.0, 0),
            s if s > SHOWN.1 => (SHOWN.1, 999_999_999),
            s => (s, nanoseconds),
        };
        let since_1970 = jiff::SignedDuration::from_secs(seconds)
            + jiff::SignedDuration::from_nanos(i64::from(nanoseconds));
        let time = jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0)
            .checked_add(since_1970)
            .unwrap_or(jiff::civil::DateTime::MAX);
        write!(f, "{time}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(seconds: i64, nanoseconds: u32) -> String {
        FileTime { seconds, nanoseconds }.to_string()
    }

    #[test]
    fn years_outside_0_to_9999_are_clamped_and_no_others() {
        assert_eq!(shown(i64::MAX, 0), "9999-12-31T23:59:59.999999999Z");
        assert_eq!(shown(SHOWN.1 + 1, 0), "9999-12-31T23:59:59.999999999Z");
        assert_eq!(shown(SHOWN.1, 0), "9999-12-31T23:59:59Z");
        assert_eq!(shown(SHOWN.1, 5), "9999-12-31T23:59:59.000000005Z");
        assert_eq!(shown(SHOWN.1 - 86_400, 0), "9999-12-30T23:59:59Z");
        assert_eq!(shown(SHOWN.0, 0), "0000-01-01T00:00:00Z");
        assert_eq!(shown(SHOWN.0 - 1, 999_999_999), "0000-01-01T00:00:00Z");
        assert_eq!(shown(i64::MIN, 0), "0000-01-01T00:00:00Z");
    }

    #[test]
    fn a_time_is_shown_as_a_timestamp_is() {
        for (seconds, nanoseconds) in [
            (0, 0),
            (-1, 500_000_000),
            (1_764_082_800, 1),
            (-62_167_219_199, 999),
            (253_402_207_200, 0),
        ] {
            let timestamp = jiff::Timestamp::new(seconds, 0).unwrap()
                + jiff::SignedDuration::from_nanos(i64::from(nanoseconds));
            assert_eq!(shown(seconds, nanoseconds), timestamp.to_string());
        }
    }
}
