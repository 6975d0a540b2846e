//! The records of an extended header.
//!
//! A record is `LENGTH KEY=VALUE\n`: the length in decimal of the whole record with
//! itself, a space, the key without `=`, any bytes as value.
//!
//! Source: POSIX.1-2017 `pax`, "pax Extended Header"; for `SCHILY.xattr.*` star(1) and
//! GNU tar 1.34 `src/xheader.c`, which writes `=` in such a key as `%3D` and `%` as `%25`.

use cove_types::FileTime;

/// The longest extended header that is read, in bytes.
///
/// It is held in memory as a whole. The largest that a Linux file needs is a path and a
/// target of 4,095 bytes and 64 KiB of names and values of xattrs several times over.
pub(super) const HEADER_BYTES_MAX: u64 = 1 << 20;

/// Before the name of an xattr.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";
/// The key of kinds that only we know.
pub(super) const KIND: &[u8] = b"COVE.kind";

/// Records under construction.
#[derive(Debug, Default)]
pub(super) struct Records(pub Vec<u8>);

impl Records {
    /// Adds a record.
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + digits(rest);
        // one more digit may make the length one digit longer
        if rest + digits(length) != length {
            length = rest + digits(length);
        }
        self.0.extend_from_slice(format!("{length} ").as_bytes());
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    /// Adds an xattr.
    pub fn push_xattr(&mut self, name: &[u8], value: &[u8]) {
        let mut key = XATTR.to_vec();
        for byte in name {
            match byte {
                b'=' => key.extend_from_slice(b"%3D"),
                b'%' => key.extend_from_slice(b"%25"),
                other => key.push(*other),
            }
        }
        self.push(&key, value);
    }
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// A key and its value.
pub(super) type Record<'a> = (&'a [u8], &'a [u8]);

/// Reads records, in order.
///
/// # Errors
///
/// One is not of the form above.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Vec<Record<'_>>, String> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (record, rest) = split_record(bytes)
            .ok_or_else(|| "a record of its extended header is broken".to_owned())?;
        records.push(record);
        bytes = rest;
    }
    Ok(records)
}

fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = bytes.iter().take(8).position(|byte| *byte == b' ')?;
    let length = decimal(&bytes[..space])?;
    let (record, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    (!key.is_empty()).then_some(((key, value), rest))
}

/// A number of decimal digits and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// The name of an xattr out of its key.
pub(super) fn xattr_name(key: &[u8]) -> Option<Vec<u8>> {
    let mut rest = key.strip_prefix(XATTR)?;
    let mut name = Vec::with_capacity(rest.len());
    loop {
        rest = match rest {
            [] => return Some(name),
            [b'%', b'3', b'D', rest @ ..] => {
                name.push(b'=');
                rest
            }
            [b'%', b'2', b'5', rest @ ..] => {
                name.push(b'%');
                rest
            }
            [byte, rest @ ..] => {
                name.push(*byte);
                rest
            }
        };
    }
}

/// A time as decimal seconds with as many digits after the point as it needs.
///
/// The sign holds for the whole number, while [`FileTime`] counts nanoseconds forward.
pub(super) fn time_text(time: FileTime) -> String {
    let nanoseconds = time.nanoseconds.min(999_999_999);
    let (sign, seconds, nanoseconds) = match (time.seconds, nanoseconds) {
        (seconds @ ..0, 0) => ("-", seconds.unsigned_abs(), 0),
        (seconds @ ..0, n) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - n),
        (seconds, n) => ("", seconds.unsigned_abs(), n),
    };
    if nanoseconds == 0 {
        return format!("{sign}{seconds}");
    }
    let fraction = format!("{nanoseconds:09}");
    format!("{sign}{seconds}.{}", fraction.trim_end_matches('0'))
}

/// Reads a time; digits after the ninth are dropped.
pub(super) fn parse_time(text: &[u8]) -> Option<FileTime> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let point = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let (whole, fraction) = text.split_at(point);
    let whole = i128::from(decimal(whole)?);
    let mut nanoseconds: i128 = 0;
    for at in 0..9 {
        nanoseconds = nanoseconds * 10 + i128::from(fraction.get(at + 1).map_or(0, |b| b & 15));
    }
    if !fraction.iter().skip(1).all(u8::is_ascii_digit) {
        return None;
    }
    let total = whole * 1_000_000_000 + nanoseconds;
    let total = if negative { -total } else { total };
    Some(FileTime {
        seconds: i64::try_from(total.div_euclid(1_000_000_000)).ok()?,
        nanoseconds: u32::try_from(total.rem_euclid(1_000_000_000)).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_come_back(
            pairs in prop::collection::vec(("[a-zA-Z.]{1,20}", any::<Vec<u8>>()), 0..20)
        ) {
            let mut records = Records::default();
            for (key, value) in &pairs {
                records.push(key.as_bytes(), value);
            }
            let expected: Vec<Record<'_>> =
                pairs.iter().map(|(key, value)| (key.as_bytes(), value.as_slice())).collect();
            prop_assert_eq!(parse(&records.0).unwrap(), expected);
        }

        #[test]
        fn records_of_any_length_count_themselves(length in 80_usize..1100) {
            let mut records = Records::default();
            records.push(b"k", &vec![b'v'; length]);
            let claimed = records.0.split(|b| *b == b' ').next().unwrap();
            prop_assert_eq!(decimal(claimed).unwrap(), records.0.len() as u64);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let _ = parse_time(&bytes);
        }

        #[test]
        fn times_come_back(seconds: i64, nanoseconds in 0..1_000_000_000_u32) {
            let time = FileTime { seconds, nanoseconds };
            prop_assert_eq!(parse_time(time_text(time).as_bytes()), Some(time));
        }

        #[test]
        fn names_of_xattrs_come_back(name in "[a-z.=%2435D]{1,12}") {
            let mut records = Records::default();
            records.push_xattr(name.as_bytes(), b"=\n\0");
            let parsed = parse(&records.0).unwrap();
            prop_assert_eq!(xattr_name(parsed[0].0).unwrap(), name.as_bytes());
        }
    }

    #[test]
    fn a_time_before_1970_is_written_as_gnu_tar_does() {
        let text = |seconds, nanoseconds| time_text(FileTime { seconds, nanoseconds });
        assert_eq!(text(-1, 500_000_000), "-0.5");
        assert_eq!(text(-2, 0), "-2");
        assert_eq!(text(7, 10), "7.00000001");
        assert_eq!(text(i64::MIN, 0), "-9223372036854775808");
    }
}
