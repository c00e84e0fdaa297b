//! What can be called, and what each call asks of its caller: read from the contracts themselves, so that they cannot differ.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use anyhow::Context as _;
use api::v1::Access;
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor};

use crate::json::Texts;

/// One.
#[derive(Clone, Debug)]
pub struct Method {
    /// What it asks of its caller.
    pub access: Access,
    /// Its request.
    pub input: MessageDescriptor,
    /// Its reply, or each of its replies.
    pub output: MessageDescriptor,
    /// It replies again and again.
    pub is_stream: bool,
    /// What it does, as the contract says.
    pub about: String,
    /// Its replies in JSON, of a stream.
    pub texts: Arc<Texts>,
}

/// All public methods, by path (`/portmaster.api.v1.System/WhoAmI`).
#[derive(Clone, Debug)]
pub struct Methods {
    by_path: HashMap<String, Method>,
    pool: DescriptorPool,
}

/// In the contracts, option of a method.
const OPTION: &str = "portmaster.api.v1.access";
/// Packages of others, for everybody: what can be called, and whether we live.
const OPEN: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

impl Methods {
    /// Those of package `portmaster.api.v1`.
    ///
    /// # Errors
    /// Where a method does not say what it asks of its caller: the contracts are wrong.
    pub fn new() -> anyhow::Result<Self> {
        let pool = DescriptorPool::decode(api::DESCRIPTORS).context("read the public contracts")?;
        let option = pool
            .get_extension_by_name(OPTION)
            .with_context(|| format!("the contracts lack {OPTION}"))?;
        let mut by_path = HashMap::new();
        for service in pool
            .services()
            .filter(|service| service.package_name() == "portmaster.api.v1")
        {
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                let number = method.options().get_extension(&option).as_enum_number();
                let access = number.and_then(|number| Access::try_from(number).ok());
                let access = access
                    .filter(|access| *access != Access::Unspecified)
                    .with_context(|| format!("{path} does not say who may call it"))?;
                let method = Method {
                    access,
                    input: method.input(),
                    output: method.output(),
                    is_stream: method.is_server_streaming(),
                    about: about(&method),
                    texts: Arc::default(),
                };
                by_path.insert(path, method);
            }
        }
        Ok(Self { by_path, pool })
    }

    /// The one at this path.
    pub fn get(&self, path: &str) -> Option<&Method> {
        self.by_path.get(path)
    }

    /// What a call of this path asks of its caller; `None` for what is not there.
    pub fn access(&self, path: &str) -> Option<Access> {
        let open = OPEN.iter().any(|prefix| path.starts_with(prefix));
        open.then_some(Access::Anybody)
            .or_else(|| self.get(path).map(|method| method.access))
    }

    /// All of them, by path.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Method)> {
        self.by_path.iter().map(|(path, method)| (path.as_str(), method))
    }

    /// Names of the services: `portmaster.api.v1.System`.
    pub fn services(&self) -> BTreeSet<&str> {
        let paths = self.by_path.keys();
        paths
            .filter_map(|path| Some(path.trim_start_matches('/').rsplit_once('/')?.0))
            .collect()
    }

    /// A message of the contracts.
    pub fn message(&self, name: &str) -> Option<MessageDescriptor> {
        self.pool.get_message_by_name(name)
    }
}

/// The comment above a method.
fn about(method: &MethodDescriptor) -> String {
    let file = method.parent_file();
    let locations = file
        .file_descriptor_proto()
        .source_code_info
        .iter()
        .flat_map(|info| &info.location);
    let of = locations
        .into_iter()
        .find(|location| location.path == method.path());
    let text = of
        .and_then(|location| location.leading_comments.as_deref())
        .unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join(" ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_says_who_may_call_it() {
        let methods = Methods::new().unwrap();
        assert!(methods.all().count() > 20);
        let access = |path| methods.access(path).unwrap();
        assert_eq!(access("/portmaster.api.v1.System/GetVersion"), Access::Anybody);
        assert_eq!(access("/portmaster.api.v1.Connections/Watch"), Access::Read);
        assert_eq!(access("/portmaster.api.v1.Tokens/Create"), Access::Admin);
        for open in [
            "/grpc.health.v1.Health/Check",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ] {
            assert_eq!(access(open), Access::Anybody);
        }
        assert!(methods.services().contains("portmaster.api.v1.System"));
        assert_eq!(
            methods.access("/portmaster.policy.v1.Policy/Pause"),
            None,
            "of the mesh alone"
        );
        assert_eq!(methods.access("/"), None);
    }

    #[test]
    fn what_only_looks_and_what_changes_are_told_apart() {
        for (path, method) in Methods::new().unwrap().all() {
            let (_, name) = path.rsplit_once('/').unwrap();
            let looks = [
                "Get", "List", "Watch", "Explain", "Lookup", "Route", "WhoAmI", "Validate",
            ];
            let looks = looks.iter().any(|word| name.starts_with(word)) && !path.contains(".Tokens/");
            assert_eq!(looks, method.access <= Access::Read, "{path}");
        }
    }

    #[test]
    fn comments_are_there_for_the_open_api_document() {
        let methods = Methods::new().unwrap();
        let about = &methods.get("/portmaster.api.v1.Connections/Get").unwrap().about;
        assert_eq!(about, "NOT_FOUND for one that ended.");
    }
}
