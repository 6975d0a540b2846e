//! Compiles the interfaces in `api/proto/cove/hub/v1` without a `protoc` on the machine.

use std::error::Error;
use std::path::Path;

use prost::Message;

const INCLUDE: &str = "../../api/proto";
const HUB: &str = "cove/hub/v1/hub.proto";
const NODES: &str = "cove/hub/v1/nodes.proto";

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script so where to write")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={INCLUDE}/{HUB}");
    println!("cargo:rerun-if-changed={INCLUDE}/{NODES}");
    let out = std::env::var_os("OUT_DIR").ok_or("cargo gives no OUT_DIR")?;
    let mut compiler = protox::Compiler::new([INCLUDE])?;
    compiler.include_imports(true).include_source_info(true).open_file(HUB)?;
    let descriptors = compiler.file_descriptor_set();
    std::fs::write(Path::new(&out).join("hub.bin"), descriptors.encode_to_vec())?;
    let descriptors = compiler.open_file(NODES)?.file_descriptor_set();
    std::fs::write(Path::new(&out).join("hub_and_nodes.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .btree_map(".")
        .boxed(".cove.hub.v1.WatchVolumesResponse.event.changed")
        .compile_fds(descriptors)?;
    Ok(())
}
