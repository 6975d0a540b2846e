//! The messages and services of `api/proto/csi/v1/csi.proto`, generated.
//!
//! They leave this crate for tests and for clients alone.

#![expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated: the documentation is in the proto file"
)]

tonic::include_proto!("csi.v1");

/// How kubelet learns of the driver: `api/proto/pluginregistration/v1/registration.proto`.
pub mod registration {
    tonic::include_proto!("pluginregistration");
}
