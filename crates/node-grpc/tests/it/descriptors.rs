//! The wire, as it was compiled.

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// Its descriptor.
pub fn node() -> FileDescriptorProto {
    let bytes: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/node.bin"));
    let files = FileDescriptorSet::decode(bytes).unwrap().file;
    files.into_iter().find(|file| file.name() == "cove/node/v1/node.proto").unwrap()
}
