//! Numbers and pieces of bytes, as all parts of the format write them.

use cove_types::ParseError;

/// Writes `number` in groups of 7 bits, lowest first, the top bit of a byte set when more follow.
pub(super) fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Writes the length of `piece` and then `piece`.
pub(super) fn put_piece(bytes: &mut Vec<u8>, piece: &[u8]) {
    put_varint(bytes, piece.len() as u64);
    bytes.extend_from_slice(piece);
}

/// What has not been read yet of some bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes are left.
    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], ParseError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| {
            ParseError(format!("{length} bytes are announced, {} follow", self.len()))
        })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn byte(&mut self) -> Result<u8, ParseError> {
        Ok(self.array::<1>()?[0])
    }

    /// A number in its shortest form; any other is refused.
    pub(super) fn varint(&mut self) -> Result<u64, ParseError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(ParseError("a number is over 64 bits".into()));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(ParseError("a number is not in its shortest form".into()));
                }
                return Ok(number);
            }
        }
        Err(ParseError("a number is over 64 bits".into()))
    }

    /// A length and then as many bytes.
    pub(super) fn piece(&mut self) -> Result<&'a [u8], ParseError> {
        let length = self.varint()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_number_comes_back(number: u64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            let mut reader = Reader::new(&bytes);
            proptest::prop_assert_eq!(reader.varint().unwrap(), number);
            proptest::prop_assert!(reader.is_empty());
        }
    }

    #[test]
    fn a_number_that_is_too_long_or_too_large_is_refused() {
        for bytes in [
            &[0x80, 0][..],
            &[0x80],
            &[0xff; 11],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ] {
            assert!(Reader::new(bytes).varint().is_err(), "{bytes:?}");
        }
    }
}
