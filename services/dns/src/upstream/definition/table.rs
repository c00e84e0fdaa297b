//! A definition as a table: the text, and what does not fit in it.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Definition, DefinitionError, parse};

/// See [`Definition`] for the meaning of the keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(super) struct Table {
    server: String,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    ca_file: Option<PathBuf>,
    #[serde(default = "yes")]
    case_randomisation: bool,
    #[serde(default = "yes")]
    cookies: bool,
}

fn yes() -> bool {
    true
}

impl Table {
    pub(super) fn build(self) -> Result<Definition, DefinitionError> {
        let mut made = parse::parse(&self.server)?;
        let fail = |problem: String| DefinitionError::new(self.server.clone(), problem);
        if !self.addresses.is_empty() && !made.addresses.is_empty() {
            return Err(fail(
                "the address stands in `server` already; write the name there, or leave out `addresses`"
                    .to_owned(),
            ));
        }
        for text in &self.addresses {
            let address = parse::address(text, made.port);
            made.addresses.push(address.ok_or_else(|| {
                fail(format!(
                    "{text:?} in `addresses` is no address; write it as 9.9.9.9 or 2620:fe::fe"
                ))
            })?);
        }
        if self.ca_file.is_some() && !made.transport.is_encrypted() {
            return Err(fail(
                "in the clear no certificate is checked; leave out `ca_file`".to_owned(),
            ));
        }
        if let Some(label) = self.label {
            made.label = label.into();
        }
        made.ca_file = self.ca_file;
        made.case_randomisation = self.case_randomisation;
        made.cookies = self.cookies;
        Ok(made)
    }
}
