//! Canonical JSON: one value has one text.
//!
//! UTF-8, no white space, the fields of each object in the ascending order of
//! their names' bytes, absent fields left out. Digests and checks are taken over this.

use cove_types::Digest;
use serde::Serialize;
use serde_json::Value;

use crate::DecodeError;

/// The canonical text of `value`.
///
/// # Panics
///
/// When `value` has a map whose keys are not text; none of ours has.
#[must_use]
pub fn canonical(value: &impl Serialize) -> Vec<u8> {
    let value = serde_json::to_value(value).expect("our types have text as keys");
    canonical_value(&value)
}

/// The first 128 bits of BLAKE3 over the canonical text of `value` without its
/// field `check`, as 32 hexadecimal digits.
fn check_of(value: &Value) -> String {
    let mut text = Digest::of(&canonical_value(value)).to_string();
    text.truncate(32);
    text
}

/// The canonical text of `value` with a field `check` that proves it whole.
pub(crate) fn seal(value: &impl Serialize) -> Vec<u8> {
    let mut value = serde_json::to_value(value).expect("our types have text as keys");
    let check = check_of(&value);
    if let Value::Object(fields) = &mut value {
        fields.insert("check".into(), Value::String(check));
    }
    canonical_value(&value)
}

/// Reads what [`seal`] wrote, of exactly this `format` and at most `bytes_max` bytes.
pub(crate) fn open(
    what: &'static str,
    bytes: &[u8],
    bytes_max: usize,
    format: u32,
) -> Result<Value, DecodeError> {
    if bytes.len() > bytes_max {
        let reason = format!("it has {} bytes, more than {bytes_max}", bytes.len());
        return Err(DecodeError::damaged(what, reason));
    }
    let mut value: Value = serde_json::from_slice(bytes)
        .map_err(|error| DecodeError::damaged(what, format!("it is not JSON: {error}")))?;
    // Before the check, which another format may take in another way.
    let found = u32::try_from(number(what, &value, "format")?).unwrap_or(u32::MAX);
    if found != format {
        return Err(DecodeError::UnknownFormat { what, found, known: format });
    }
    if canonical_value(&value) != bytes {
        return Err(DecodeError::damaged(what, "it is not canonical JSON"));
    }
    let Value::Object(fields) = &mut value else {
        return Err(DecodeError::damaged(what, "it is not an object"));
    };
    let check = fields.remove("check");
    if check.as_ref().and_then(Value::as_str) != Some(check_of(&value).as_str()) {
        return Err(DecodeError::damaged(what, "its check does not match its content"));
    }
    Ok(value)
}

/// A number of `value`, for what is looked at before the whole is read.
pub(crate) fn number(what: &'static str, value: &Value, field: &str) -> Result<u64, DecodeError> {
    value
        .get(field)
        .and_then(Value::as_u64)
        .ok_or_else(|| DecodeError::damaged(what, format!("field \"{field}\" is no number")))
}

/// Whether a field that counts bits is left out.
pub(crate) fn is_zero(bits: &u64) -> bool {
    *bits == 0
}

fn canonical_value(value: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    write_value(value, &mut text);
    text
}

/// Sorts by itself: whether `serde_json`'s own map is sorted depends on features
/// that any crate of the build may turn on.
fn write_value(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| name.as_bytes());
            text.push(b'{');
            for (n, (name, value)) in fields.into_iter().enumerate() {
                if n > 0 {
                    text.push(b',');
                }
                write_value(&Value::String(name.clone()), text);
                text.push(b':');
                write_value(value, text);
            }
            text.push(b'}');
        }
        Value::Array(items) => {
            text.push(b'[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    text.push(b',');
                }
                write_value(item, text);
            }
            text.push(b']');
        }
        plain => text.extend_from_slice(plain.to_string().as_bytes()),
    }
}
