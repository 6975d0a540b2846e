//! Compiles `api/proto/cove/node/v1/node.proto` without a `protoc` on the machine.

use std::error::Error;
use std::path::Path;

use prost::Message;

const INCLUDE: &str = "../../api/proto";
const NODE: &str = "cove/node/v1/node.proto";

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script so where to write")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={INCLUDE}/{NODE}");
    let mut compiler = protox::Compiler::new([INCLUDE])?;
    compiler.include_imports(true).include_source_info(true).open_file(NODE)?;
    let descriptors = compiler.file_descriptor_set();
    let out = std::env::var_os("OUT_DIR").ok_or("cargo gives no OUT_DIR")?;
    std::fs::write(Path::new(&out).join("node.bin"), descriptors.encode_to_vec())?;
    let mut builder = tonic_prost_build::configure().bytes(".");
    for reply in ["Create", "Fork", "Describe", "Specify", "SetTrashed", "Recover"] {
        builder = builder.boxed(format!(".cove.node.v1.{reply}Response.step.volume"));
    }
    builder.compile_fds(descriptors)?;
    Ok(())
}
