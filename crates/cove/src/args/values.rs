//! How the values of flags are written.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cove_types::{NodeId, ParseError};
use cove_unix_grpc::SOCKET_PATH_BYTES_MAX;

/// Reads `unix:///PATH` or `unix:/PATH`. Nothing else is taken: of `unix://run/x.sock` other programs take `run` for
/// a host. Over the network it would need TLS with certificates of both sides, which is to come.
pub(super) fn parse_socket(text: &str) -> Result<PathBuf, String> {
    if ["tcp:", "http", "dns:"].iter().any(|scheme| text.starts_with(scheme)) {
        return Err("plain text is spoken over unix sockets alone: give unix:///PATH".to_owned());
    }
    let path = cove_csi::parse_endpoint(text).map_err(|error| error.to_string())?;
    match text.starts_with("unix:") && path.is_absolute() {
        true => Ok(path),
        false => Err("a socket is written unix:///PATH, with an absolute path".to_owned()),
    }
}

/// Reads where a socket is to be made that other programs reach by its path.
pub(super) fn parse_endpoint(text: &str) -> Result<PathBuf, String> {
    let path = parse_socket(text)?;
    within_reach(&path)?;
    Ok(path)
}

/// Refuses the path of a socket that no program can connect to.
fn within_reach(socket: &Path) -> Result<(), String> {
    match socket.as_os_str().len() {
        0..=SOCKET_PATH_BYTES_MAX => Ok(()),
        length => Err(format!(
            "a socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes, this one has {length}"
        )),
    }
}

/// Reads kubelet's directory, in which a socket is made.
pub(super) fn parse_registration(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("give the directory that kubelet watches".to_owned());
    }
    let directory = std::path::absolute(text).map_err(|error| error.to_string())?;
    let socket = cove_csi::registration_socket(&directory);
    within_reach(&socket).map_err(|why| format!("{why}: {}", socket.display()))?;
    Ok(directory)
}

pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address is ADDR:PORT, such as 127.0.0.1:7070".to_owned())
}

pub(super) fn parse_volumes_max(text: &str) -> Result<NonZeroU32, String> {
    let most = u32::MAX;
    text.parse()
        .map_err(|_| format!("a number of volumes is 1 to {most}; for any number leave it out"))
}

pub(super) fn parse_compat(text: &str) -> Result<cove_csi::Compat, String> {
    text.parse().map_err(|error: ParseError| error.to_string())
}

pub(super) fn parse_node_id(text: &str) -> Result<NodeId, String> {
    text.parse().map_err(|error: ParseError| error.to_string())
}

/// Reads a quota: a size that a volume may have.
pub(super) fn parse_quota(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    cove_content::spec::check_quota_bytes(bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Reads `4096`, `4k`, `4KiB`, `2G`, `2GiB`; all units are powers of 1024.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim().to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b')
    {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        "e" => 60,
        _ => {
            let units = "KiB, MiB, GiB, TiB, PiB or EiB";
            return Err(format!("a size is a number of bytes, or one with {units}"));
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "a size is a whole number of bytes below 16 EiB".into())
}

/// Reads `30s`, `500ms`, `5min`, `1h`; a bare number is seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit_ms = match unit.trim() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a duration is a number with ms, s, min or h".into()),
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    match ms {
        Some(ms) if (100..=86_400_000).contains(&ms) => Ok(Duration::from_millis(ms)),
        _ => Err("a duration is 100 ms to 24 h".into()),
    }
}

/// Reads `k/n` with 1 ≤ k ≤ n.
pub(super) fn parse_part(text: &str) -> Result<(u32, u32), String> {
    text.split_once('/')
        .and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)))
        .filter(|(part, of)| (1..=*of).contains(part))
        .ok_or_else(|| "a part is written k/n with k from 1 to n".into())
}
