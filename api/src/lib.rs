//! What programs of other people say to Portmaster, on 127.0.0.1:817: one door, for gRPC, gRPC-web and JSON.
//!
//! Inside a `v1` package there are only additions. Each method says what it asks of its caller (option `access`).

/// Version 1.
#[allow(
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    clippy::large_futures,
    reason = "generated; the documentation is in the .proto files"
)]
pub mod v1 {
    tonic::include_proto!("portmaster.api.v1");
}

/// Every public message and service, with comments and options, encoded as a `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
