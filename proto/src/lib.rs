//! What services say to each other: gRPC contracts, and their conversion to domain types.
//!
//! Inside a `v1` package there are only additions. Wire types stop at the door of a service: [`convert`] turns them
//! into the types of `verdict` and back.

pub mod convert;
pub mod place;

/// Every message and service of the mesh, encoded as a `FileDescriptorSet`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Octets that a client must be ready to take as one policy snapshot (`max_decoding_message_size`): tonic's own limit of
/// 4 MiB is reached by some 10,000 profiles with a few rules each.
pub const MAX_SNAPSHOT: usize = 256 << 20;

macro_rules! part {
    ($(#[$doc:meta])* $part:ident, $package:literal) => {
        $(#[$doc])*
        pub mod $part {
            /// Version 1.
            #[allow(missing_docs, unused_qualifications, unreachable_pub, clippy::all, clippy::allow_attributes_without_reason,
                    clippy::indexing_slicing, clippy::needless_pass_by_value, clippy::large_futures,
                    reason = "generated; the documentation is in the .proto files")]
            pub mod v1 {
                tonic::include_proto!($package);
            }
        }
    };
}

part!(
    /// What every service can say about itself.
    common, "portmaster.common.v1"
);
part!(
    /// A flow, the process behind it, the decision about it.
    flow, "portmaster.flow.v1"
);
part!(
    /// Which process does a flow belong to?
    resolver, "portmaster.resolver.v1"
);
part!(
    /// What the owner wants, as snapshots.
    policy, "portmaster.policy.v1"
);
part!(
    /// What passes the packet path.
    interceptor, "portmaster.interceptor.v1"
);
part!(
    /// The API gateway, for the mesh itself.
    gateway, "portmaster.gateway.v1"
);
part!(
    /// Who asked for which name, and what became of it.
    dns, "portmaster.dns.v1"
);
part!(
    /// What is carried through Gate17, and by which nodes.
    gate17, "portmaster.gate17.v1"
);
