//! Inside a version there are only additions: whatever stood in the contracts when they last landed (`landed.txt`) stands there still.
//!
//! `UPDATE_LANDED=1 cargo test -p api` writes down what stands there now; do that with each release, never to make this test pass.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what fails there fails the test"
)]

use std::{collections::BTreeSet, fs, path::Path};

use prost_reflect::{DescriptorPool, EnumDescriptor, Kind, MessageDescriptor, ServiceDescriptor};

#[test]
fn whatever_landed_is_there_still() {
    let now = contracts(&DescriptorPool::decode(api::DESCRIPTORS).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("landed.txt");
    if std::env::var_os("UPDATE_LANDED").is_some() {
        let text: String = now.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&path, text).unwrap();
    }
    let landed = fs::read_to_string(&path).unwrap();
    let gone: Vec<&str> = landed.lines().filter(|line| !now.contains(*line)).collect();
    assert!(landed.lines().count() > 500, "that is not all of it");
    assert!(
        gone.is_empty(),
        "clients that are out there know these, and the contracts no longer do:\n{}",
        gone.join("\n")
    );
}

/// Everything that clients are built of, a line each.
fn contracts(pool: &DescriptorPool) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    pool.services()
        .filter(|service| service.package_name() == "portmaster.api.v1")
        .for_each(|service| methods(pool, &service, &mut lines));
    let ours = |name: &str| name.starts_with("portmaster.");
    pool.all_messages()
        .filter(|message| ours(message.full_name()))
        .for_each(|message| fields(&message, &mut lines));
    pool.all_enums()
        .filter(|words| ours(words.full_name()))
        .for_each(|words| values(&words, &mut lines));
    lines
}

fn methods(pool: &DescriptorPool, service: &ServiceDescriptor, lines: &mut BTreeSet<String>) {
    let access = pool.get_extension_by_name("portmaster.api.v1.access").unwrap();
    for method in service.methods() {
        let stream = if method.is_server_streaming() {
            "stream "
        } else {
            ""
        };
        // who may call it: nobody who may stops being able to, and nobody else begins
        let options = method.options();
        let access = options.get_extension(&access).as_enum_number().unwrap();
        lines.insert(format!("access {} = {access}", method.full_name()));
        lines.insert(format!(
            "rpc {} ({}) returns ({stream}{})",
            method.full_name(),
            method.input().full_name(),
            method.output().full_name(),
        ));
    }
}

fn fields(message: &MessageDescriptor, lines: &mut BTreeSet<String>) {
    for field in message.fields() {
        let kind = match field.kind() {
            Kind::Message(of) => of.full_name().to_owned(),
            Kind::Enum(of) => of.full_name().to_owned(),
            plain => format!("{plain:?}").to_lowercase(),
        };
        let one_of = field.containing_oneof().map(|of| of.name().to_owned());
        lines.insert(format!(
            "field {} = {} {:?} {kind} {}",
            field.full_name(),
            field.number(),
            field.cardinality(),
            one_of.unwrap_or_default(),
        ));
    }
}

fn values(words: &EnumDescriptor, lines: &mut BTreeSet<String>) {
    for word in words.values() {
        lines.insert(format!("value {} = {}", word.full_name(), word.number()));
    }
}
