//! Contracts only grow: whatever could be said in the previous version means the same in this one.

use std::{collections::BTreeMap, path::Path};

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, ServiceDescriptorProto,
    field_descriptor_proto::Type,
};

use crate::previous;

#[test]
fn what_could_be_said_means_the_same() {
    let Some(source) = previous::source("proto/proto") else {
        return;
    };
    let folder = source.path().join("proto/proto");
    let mut files = Vec::new();
    find(&folder, &mut files);
    assert!(!files.is_empty(), "the previous version has contracts");
    let old = Said::of(&protox::compile(&files, [&folder]).unwrap());
    let lost = old.lost_in(&current());
    assert!(
        lost.is_empty(),
        "these are in use by services of {}: {lost:#?}",
        previous::commit()
    );
}

/// The public ones, which programs of other people were made from.
#[test]
fn what_others_could_say_means_the_same() {
    if !previous::has("api/proto") {
        return;
    }
    let (Some(public), Some(shared)) = (previous::source("api/proto"), previous::source("proto/proto"))
    else {
        return;
    };
    let folders = [public.path().join("api/proto"), shared.path().join("proto/proto")];
    let mut files = Vec::new();
    find(&folders[0], &mut files);
    let old = Said::of(&protox::compile(&files, &folders).unwrap());
    let lost = old.lost_in(&Said::of(&FileDescriptorSet::decode(api::DESCRIPTORS).unwrap()));
    assert!(
        lost.is_empty(),
        "these are in use by clients of {}: {lost:#?}",
        previous::commit()
    );
}

#[test]
fn what_is_taken_away_renumbered_or_retyped_is_named() {
    let set = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let change = |change: &dyn Fn(&mut FileDescriptorSet)| {
        let mut changed = set.clone();
        change(&mut changed);
        Said::of(&set).lost_in(&Said::of(&changed))
    };
    let flow = |set: &mut FileDescriptorSet, act: &dyn Fn(&mut DescriptorProto)| {
        let mut messages = set.file.iter_mut().flat_map(|file| &mut file.message_type);
        act(messages.find(|message| message.name() == "Flow").unwrap());
    };
    assert_eq!(change(&|_| ()), [""; 0]);
    let gone = change(&|set| flow(set, &|flow| drop(flow.field.remove(0))));
    assert_eq!(gone.len(), 1, "{gone:?}");
    let renumbered = change(&|set| flow(set, &|flow| flow.field[1].number = Some(77)));
    assert!(renumbered[0].contains("number 77"), "{renumbered:?}");
    let retyped = change(&|set| {
        flow(set, &|flow| flow.field[1].set_type(Type::Bytes));
    });
    assert!(retyped[0].contains("Bytes"), "{retyped:?}");
    let value = change(&|set| {
        let mut enums = set.file.iter_mut().flat_map(|file| &mut file.enum_type);
        enums.next().unwrap().value[1].number = Some(99);
    });
    assert!(value[0].contains("99"), "{value:?}");
    let call = change(&|set| {
        let mut services = set.file.iter_mut().flat_map(|file| &mut file.service);
        services.next().unwrap().method.remove(0);
    });
    assert!(call[0].contains("is gone"), "{call:?}");
    let grown = change(&|set| {
        flow(set, &|flow| {
            let mut more = flow.field[0].clone();
            more.name = Some("more".to_owned());
            more.number = Some(999);
            flow.field.push(more);
        });
    });
    assert_eq!(grown, [""; 0], "more is no less");
}

fn current() -> Said {
    Said::of(&FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap())
}

fn find(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            find(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// What each field, enum value and call is, by its full name.
#[derive(Debug, Default)]
struct Said(BTreeMap<String, String>);

impl Said {
    fn of(set: &FileDescriptorSet) -> Self {
        let mut said = Self::default();
        for file in &set.file {
            let package = file.package();
            for message in &file.message_type {
                said.message(package, message);
            }
            for values in &file.enum_type {
                said.values(package, values);
            }
            for service in &file.service {
                said.service(package, service);
            }
        }
        said
    }

    fn lost_in(&self, new: &Self) -> Vec<String> {
        let lost = |(name, was): (&String, &String)| match new.0.get(name) {
            None => Some(format!("{name} ({was}) is gone")),
            Some(is) if is != was => Some(format!("{name} was {was} and is {is}")),
            Some(_) => None,
        };
        self.0.iter().filter_map(lost).collect()
    }

    fn message(&mut self, parent: &str, message: &DescriptorProto) {
        let name = format!("{parent}.{}", message.name());
        for field in &message.field {
            self.field(&name, field, message);
        }
        for inner in &message.nested_type {
            self.message(&name, inner);
        }
        for values in &message.enum_type {
            self.values(&name, values);
        }
    }

    fn field(&mut self, parent: &str, field: &FieldDescriptorProto, message: &DescriptorProto) {
        // one of several, unless it is alone there: that is how `optional` is written
        let group = usize::try_from(field.oneof_index.unwrap_or(-1))
            .ok()
            .filter(|_| !field.proto3_optional())
            .and_then(|index| message.oneof_decl.get(index))
            .map_or("", |group| group.name());
        let is = format!(
            "number {}, {:?} {:?} {} {group}",
            field.number(),
            field.label(),
            field.r#type(),
            field.type_name()
        );
        self.0.insert(format!("{parent}.{}", field.name()), is);
    }

    fn values(&mut self, parent: &str, values: &EnumDescriptorProto) {
        for value in &values.value {
            let name = format!("{parent}.{}.{}", values.name(), value.name());
            self.0.insert(name, format!("number {}", value.number()));
        }
    }

    fn service(&mut self, parent: &str, service: &ServiceDescriptorProto) {
        for method in &service.method {
            let is = format!(
                "{} {} → {} {}",
                method.client_streaming(),
                method.input_type(),
                method.server_streaming(),
                method.output_type()
            );
            self.0
                .insert(format!("{parent}.{}.{}", service.name(), method.name()), is);
        }
    }
}
