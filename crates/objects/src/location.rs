//! Where a store is.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, PathBuf};

use cove_types::{ParseError, escape_bytes};

/// Where a store's objects are, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// On a disk of this machine: what is saved there is saved on this disk only.
    ThisDisk,
    /// Elsewhere.
    Url(String),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThisDisk => f.write_str("this disk"),
            Self::Url(url) => f.write_str(url),
        }
    }
}

/// A store as an operator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `file:///absolute/directory`.
    Directory(PathBuf),
    /// `s3://bucket` or `s3://bucket/prefix`.
    S3 {
        /// The bucket.
        bucket: String,
        /// What all keys begin with, without slashes at its ends; may be empty.
        prefix: String,
    },
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => {
                write!(f, "file://{}", escape_bytes(path.as_os_str().as_bytes()))
            }
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// The store that `text` names: `file:///absolute/directory`, `s3://bucket` or
/// `s3://bucket/prefix`. Slashes at the end do not count. Nothing is unescaped.
///
/// # Errors
///
/// The text names no store; the message says why.
pub fn parse_url(text: &str) -> Result<StoreUrl, ParseError> {
    let shown = || escape_bytes(&text.as_bytes()[..text.len().min(80)]);
    if let Some(path) = text.strip_prefix("file://") {
        let path = PathBuf::from(if path == "/" { path } else { path.trim_end_matches('/') });
        let lawful = path.is_absolute()
            && !text.contains('\0')
            && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        return if lawful {
            Ok(StoreUrl::Directory(path))
        } else {
            Err(ParseError(format!(
                "after file:// comes an absolute path without .., found \"{}\"",
                shown()
            )))
        };
    }
    if let Some(rest) = text.strip_prefix("s3://") {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_lawful = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
        let alphanumeric = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        if !(3..=63).contains(&bucket.len())
            || !bucket.bytes().all(is_lawful)
            || !alphanumeric(bucket.as_bytes().first())
            || !alphanumeric(bucket.as_bytes().last())
        {
            return Err(ParseError(format!(
                "a bucket has 3 to 63 of a-z, 0-9, '.' and '-', found \"{}\"",
                shown()
            )));
        }
        let prefix = parse_prefix(prefix)?;
        return Ok(StoreUrl::S3 { bucket: bucket.to_owned(), prefix });
    }
    Err(ParseError(format!(
        "a store is file:///directory or s3://bucket/prefix, found \"{}\"",
        shown()
    )))
}

/// The prefix of a store without the slashes at its ends.
///
/// # Errors
///
/// It has more than 256 bytes or something that an S3 key would need escaped.
pub(crate) fn parse_prefix(text: &str) -> Result<String, ParseError> {
    let prefix = text.trim_matches('/');
    let is_lawful = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/' | b'_' | b'-');
    let lawful = prefix.len() <= 256
        && prefix.bytes().all(is_lawful)
        && (prefix.is_empty() || !prefix.split('/').any(|part| matches!(part, "" | "." | "..")));
    if lawful {
        Ok(prefix.to_owned())
    } else {
        Err(ParseError(format!(
            "a store's prefix has at most 256 of A-Z, a-z, 0-9, '.', '/', '_' and '-' without empty, . and .. components, found \"{}\"",
            escape_bytes(&text.as_bytes()[..text.len().min(80)])
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_url_names_a_directory_or_a_bucket() {
        for (text, shown) in [
            ("file:///srv/objects/", "file:///srv/objects"),
            ("file:///", "file:///"),
            ("s3://cove", "s3://cove"),
            ("s3://cove//", "s3://cove"),
            ("s3://cove/Team/a//", "s3://cove/Team/a"),
        ] {
            assert_eq!(parse_url(text).unwrap().to_string(), shown);
        }
        for refused in [
            "",
            "file://",
            "file://relative",
            "file:///a/../b",
            "s3://",
            "s3://ab",
            "s3://-abc",
            "s3://Cove",
            "s3://cove/a//b",
            "s3://cove/a b",
            "s3://cove/..",
            "http://cove",
            "s3://cove/?x",
        ] {
            parse_url(refused).unwrap_err();
        }
    }
}
