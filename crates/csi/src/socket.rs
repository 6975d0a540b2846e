//! Where the driver is called.

use std::path::PathBuf;

use cove_types::ParseError;

/// Reads where to listen: `unix:///run/csi.sock`, `unix:run/csi.sock` or a path alone.
///
/// # Errors
///
/// It is another kind of address, or none.
pub fn parse_endpoint(text: &str) -> Result<PathBuf, ParseError> {
    let refused = |why: &str| {
        let shown: String = text.chars().take(120).collect();
        Err(ParseError(format!("\"{}\": {why}", shown.escape_default())))
    };
    let path = match text.split_once(':') {
        Some(("unix", rest)) => rest.strip_prefix("//").unwrap_or(rest),
        Some(("tcp", _)) => {
            return refused("the interface is served on a unix socket, whose callers are known");
        }
        Some((scheme, _)) if !scheme.contains('/') => {
            return refused("an endpoint is unix:///PATH");
        }
        _ => text,
    };
    if path.is_empty() || path.ends_with('/') || path.contains('\0') {
        return refused("an endpoint names the path of a socket");
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn an_endpoint_is_a_unix_socket() {
        for (text, path) in [
            ("unix:///run/csi.sock", "/run/csi.sock"),
            ("unix://run/csi.sock", "run/csi.sock"),
            ("unix:/run/csi.sock", "/run/csi.sock"),
            ("unix:csi.sock", "csi.sock"),
            ("/run/csi.sock", "/run/csi.sock"),
            ("/run/a:b/csi.sock", "/run/a:b/csi.sock"),
        ] {
            assert_eq!(parse_endpoint(text).unwrap(), Path::new(path), "{text}");
        }
        for text in ["", "unix://", "unix:", "unix:///run/", "http://a", "unix:///a\0b"] {
            assert!(parse_endpoint(text).is_err(), "{text:?}");
        }
        let refused = parse_endpoint("tcp://127.0.0.1:10000").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "\"tcp://127.0.0.1:10000\": the interface is served on a unix socket, whose callers are known"
        );
    }
}
