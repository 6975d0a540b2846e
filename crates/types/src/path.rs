//! Paths inside a workspace, which are bytes.

use std::fmt;

use crate::ParseError;

/// The longest name, in bytes, as in the kernel.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest path, in bytes, with its separators; the kernel's `PATH_MAX` without its NUL.
pub const PATH_BYTES_MAX: usize = 4095;
/// The deepest path, in components.
pub const DEPTH_MAX: usize = 256;

/// A path inside a tree: names, outermost first; none of them is empty, `.` or
/// `..`, holds `/` or NUL or is longer than [`NAME_BYTES_MAX`], and all of them are
/// within [`PATH_BYTES_MAX`] and [`DEPTH_MAX`]. The empty path is the tree's top.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// The top.
    #[must_use]
    pub fn top() -> Self {
        Self(Vec::new())
    }

    /// Reads a path of raw bytes, with single slashes between names and none around.
    ///
    /// # Errors
    ///
    /// A name or the whole breaks the law of this type.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.is_empty() {
            return Ok(Self::top());
        }
        let refused = |why: &str| {
            let shown = escape_bytes(&bytes[..bytes.len().min(120)]);
            ParseError(format!("path \"{shown}\" {why}"))
        };
        if bytes.len() > PATH_BYTES_MAX {
            return Err(refused(&format!("is longer than {PATH_BYTES_MAX} bytes")));
        }
        let mut depth = 0;
        for name in bytes.split(|b| *b == b'/') {
            depth += 1;
            match name {
                b"" => return Err(refused("has an empty name")),
                b"." | b".." => return Err(refused("has a name that is . or ..")),
                _ if name.contains(&0) => return Err(refused("has a NUL byte")),
                _ if name.len() > NAME_BYTES_MAX => {
                    return Err(refused(&format!("has a name over {NAME_BYTES_MAX} bytes")));
                }
                _ => {}
            }
        }
        if depth > DEPTH_MAX {
            return Err(refused(&format!("is deeper than {DEPTH_MAX}")));
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Reads a path as a person writes it after `NAME:`: `\xNN` and `\\` are
    /// unescaped, slashes before and after do not count, nor do doubled ones or `.` names.
    ///
    /// # Errors
    ///
    /// A broken escape, a name that is `..`, or what [`from_bytes`](Self::from_bytes) refuses.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let bytes = unescape_text(text)?;
        let names: Vec<&[u8]> =
            bytes.split(|b| *b == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
        Self::from_bytes(&names.join(&b'/'))
    }

    /// The bytes, names joined by `/`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the top.
    #[must_use]
    pub fn is_top(&self) -> bool {
        self.0.is_empty()
    }

    /// The names, outermost first; none for the top.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|name| !name.is_empty())
    }

    /// The last name; `None` for the top.
    #[must_use]
    pub fn name(&self) -> Option<&[u8]> {
        self.names().next_back()
    }

    /// The path without its last name; `None` for the top.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_top() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].to_vec()))
    }

    /// This path with one more name.
    ///
    /// # Errors
    ///
    /// The name or the result breaks the law of this type.
    pub fn join(&self, name: &[u8]) -> Result<Self, ParseError> {
        if name.contains(&b'/') {
            return Err(ParseError(format!("name \"{}\" has a slash", escape_bytes(name))));
        }
        let mut bytes = self.0.clone();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        if name.is_empty() {
            return Err(ParseError("a name is empty".into()));
        }
        Self::from_bytes(&bytes)
    }

    /// This path and then all names of `below`.
    ///
    /// # Errors
    ///
    /// The result is too long or too deep.
    pub fn join_path(&self, below: &Self) -> Result<Self, ParseError> {
        match (self.is_top(), below.is_top()) {
            (_, true) => Ok(self.clone()),
            (true, _) => Ok(below.clone()),
            _ => Self::from_bytes(&[self.as_bytes(), below.as_bytes()].join(&b'/')),
        }
    }

    /// What remains of this path below `ancestor`; `None` when it is not below it.
    /// The path itself leaves the top.
    #[must_use]
    pub fn below(&self, ancestor: &Self) -> Option<Self> {
        if ancestor.is_top() {
            return Some(self.clone());
        }
        let rest = self.0.strip_prefix(ancestor.0.as_slice())?;
        match rest {
            [] => Some(Self::top()),
            [b'/', rest @ ..] => Some(Self(rest.to_vec())),
            _ => None,
        }
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape_bytes(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreePath({self})")
    }
}

/// Whether a character turns the direction of text around it or hides in it.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes as text that is safe to print: valid UTF-8 as it is, but each byte of
/// control and bidirectional characters and each byte that is not UTF-8 as
/// `\xNN`, and a backslash as `\\`. [`unescape_text`] is its inverse.
#[must_use]
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let hex = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                text.push_str("\\\\");
            } else if c.is_control() || is_bidi(c) || matches!(c, '\u{2028}' | '\u{2029}') {
                hex(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        hex(&mut text, chunk.invalid());
    }
    text
}

/// The bytes that [`escape_bytes`] wrote; other text is taken as its UTF-8 bytes.
///
/// # Errors
///
/// A backslash is followed neither by a backslash nor by `x` and two hexadecimal digits.
pub fn unescape_text(text: &str) -> Result<Vec<u8>, ParseError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                rest = after;
            }
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [high.to_ascii_lowercase(), low.to_ascii_lowercase()];
                let byte = std::str::from_utf8(&digits)
                    .ok()
                    .and_then(crate::operation::parse_hex::<1>)
                    .ok_or_else(|| ParseError("after \\x come two hexadecimal digits".into()))?;
                bytes.push(byte[0]);
                rest = after;
            }
            (b'\\', _) => {
                return Err(ParseError("a backslash is written \\\\, a byte \\xNN".into()));
            }
            (other, after) => {
                bytes.push(*other);
                rest = after;
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_person_loses_its_outer_and_doubled_slashes() {
        assert_eq!(TreePath::parse("/src//app.ts/").unwrap().as_bytes(), b"src/app.ts");
        assert_eq!(TreePath::parse("/").unwrap(), TreePath::top());
    }

    #[test]
    fn a_path_that_climbs_is_refused() {
        for text in ["..", "a/../b", "/..", "a/.."] {
            assert!(TreePath::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_below_a_directory_and_not_below_its_prefix() {
        let path = TreePath::parse("src/app").unwrap();
        assert_eq!(path.below(&TreePath::parse("src").unwrap()).unwrap().as_bytes(), b"app");
        assert_eq!(path.below(&TreePath::parse("sr").unwrap()), None);
    }

    proptest::proptest! {
        #[test]
        fn escaped_bytes_are_printable_and_come_back(bytes: Vec<u8>) {
            let text = escape_bytes(&bytes);
            proptest::prop_assert!(!text.chars().any(|c| c.is_control() || is_bidi(c)));
            proptest::prop_assert_eq!(unescape_text(&text).unwrap(), bytes);
        }
    }
}
