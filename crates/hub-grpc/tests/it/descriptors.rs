//! The wire, as it was compiled.

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// Its descriptor.
pub fn hub() -> FileDescriptorProto {
    let bytes: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hub.bin"));
    let files = FileDescriptorSet::decode(bytes).unwrap().file;
    files.into_iter().find(|file| file.name() == "cove/hub/v1/hub.proto").unwrap()
}
