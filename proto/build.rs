//! Compiles the contracts with protox: no protoc needed.
use std::{env, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parts = [
        "common",
        "flow",
        "resolver",
        "policy",
        "interceptor",
        "dns",
        "gate17",
        "gateway",
    ];
    let files: Vec<String> = parts
        .iter()
        .map(|part| format!("portmaster/{part}/v1/{part}.proto"))
        .collect();
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(&files, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
