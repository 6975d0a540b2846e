//! The wire, as it was compiled.

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// Our files, each with its name.
pub const FILES: [&str; 2] = ["hub", "nodes"];

/// The descriptor of one of [`FILES`].
pub fn file(name: &str) -> FileDescriptorProto {
    let bytes: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hub_and_nodes.bin"));
    let files = FileDescriptorSet::decode(bytes).unwrap().file;
    let path = format!("cove/hub/v1/{name}.proto");
    files.into_iter().find(|file| file.name() == path).unwrap()
}

pub fn hub() -> FileDescriptorProto {
    file("hub")
}
