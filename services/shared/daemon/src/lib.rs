//! What every main needs once: config, sockets, gRPC over Unix sockets, telemetry, readiness
