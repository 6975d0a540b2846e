//! The server and the client of a node, over real sockets; and the wire itself.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod baseline;
mod broken;
mod bytes;
mod descriptors;
mod doors;
mod ends;
mod errors;
mod lint;
mod long;
mod newer;
mod peers;
mod progress;
mod proxy;
mod raw;
mod recovery;
mod round;
mod scripted;
mod world;

/// The wire as generated, for what our own client does not say.
mod pb {
    #![expect(
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]
    tonic::include_proto!("cove.node.v1");
}

#[test]
fn no_file_of_tests_is_forgotten() {
    let own = include_str!("main.rs");
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    for file in std::fs::read_dir(place).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap();
        assert!(module == "main" || own.contains(&format!("mod {module};")), "{name}");
    }
}
