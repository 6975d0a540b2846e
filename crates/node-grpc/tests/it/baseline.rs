//! What was on the wire once stays.

use cove_unix_grpc::contract::{breaks, lines};

use crate::descriptors::node;

#[expect(clippy::disallowed_methods, reason = "the same word updates all golden files")]
#[test]
fn the_wire_breaks_no_client() {
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/../../api/proto/cove/node/v1/node.baseline");
    let baseline = std::fs::read_to_string(place).unwrap_or_default();
    let now = lines(&node());
    let broken = breaks(baseline.lines(), now.iter().map(String::as_str));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let now = now.join("\n") + "\n";
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(place, &now).unwrap();
        return;
    }
    assert!(baseline == now, "the wire has more than {place}: run this test with UPDATE_EXPECT=1");
}
