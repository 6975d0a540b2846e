//! Generates the messages and services of the Container Storage Interface and of the registration with kubelet, without
//! `protoc`.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("../../api/proto");
    let files = ["csi/v1/csi.proto", "pluginregistration/v1/registration.proto"];
    let files = files.map(|file| root.join(file));
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let mut descriptors = protox::compile(&files, [root])?;
    for file in &mut descriptors.file {
        // comments, which are not written for rustdoc
        file.source_code_info = None;
    }
    tonic_prost_build::configure().emit_rerun_if_changed(false).compile_fds(descriptors)?;
    Ok(())
}
