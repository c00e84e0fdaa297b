//! Compiles the public contracts with protox: no protoc needed. What they share with the mesh comes from crate `proto`.
use std::{env, fs, path::PathBuf};

use prost::Message as _;

/// Packages of the mesh that public messages hold.
const SHARED: [&str; 7] = [
    "common",
    "flow",
    "resolver",
    "policy",
    "interceptor",
    "dns",
    "gate17",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parts = [
        "access",
        "connections",
        "system",
        "dns",
        "gate17",
        "policy",
        "processes",
        "settings",
        "audit",
        "events",
    ];
    let files = parts.map(|part| format!("portmaster/api/v1/{part}.proto"));
    for folder in ["proto", "../proto/proto"] {
        println!("cargo::rerun-if-changed={folder}");
    }
    let descriptors = protox::Compiler::new(["proto", "../proto/proto"])?
        .include_imports(true)
        .include_source_info(true)
        .open_files(&files)?
        .encode_file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // with the options that prost's own types would lose
    fs::write(out.join("descriptors.bin"), &descriptors)?;
    let descriptors = prost_types::FileDescriptorSet::decode(descriptors.as_slice())?;
    let mut generate = tonic_prost_build::configure();
    for part in SHARED {
        generate = generate.extern_path(format!(".portmaster.{part}.v1"), format!("::proto::{part}::v1"));
    }
    generate.compile_fds(descriptors)?;
    Ok(())
}
