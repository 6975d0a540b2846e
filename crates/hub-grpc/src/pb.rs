//! What the interfaces in `api/proto/cove/hub/v1` become. Nothing of it leaves this crate.

#![expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
#![allow(
    rustdoc::invalid_html_tags,
    rustdoc::bare_urls,
    rustdoc::broken_intra_doc_links,
    reason = "generated"
)]

tonic::include_proto!("cove.hub.v1");

/// The descriptors of `hub.proto`, with their comments and what they import, for reflection.
pub(crate) const HUB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hub.bin"));

/// The same with those of `nodes.proto`, where nodes come, too.
pub(crate) const HUB_AND_NODES: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/hub_and_nodes.bin"));
