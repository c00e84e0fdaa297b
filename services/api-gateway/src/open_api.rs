//! What can be called in JSON, as an OpenAPI 3.1 document: made of the contracts' own descriptors.

use std::collections::BTreeMap;

use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::methods::{Method, Methods};

/// The document.
pub fn document(methods: &Methods, version: &str) -> Value {
    let mut schemas = Schemas::default();
    let mut all: Vec<(&str, &Method)> = methods.all().collect();
    all.sort_by_key(|(path, _)| *path);
    let mut paths = Map::new();
    for (path, method) in all {
        paths.insert(
            path.to_owned(),
            json!({ "post": operation(path, method, &mut schemas) }),
        );
    }
    schemas.made.insert("Error".to_owned(), error());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Portmaster",
            "version": version,
            "summary": "What programs on this host connect to, and what was decided about it",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "http://127.0.0.1:817" }],
        "paths": paths,
        "components": {
            "schemas": schemas.made,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
        "security": [{}, { "token": [] }],
    })
}

fn operation(path: &str, method: &Method, schemas: &mut Schemas) -> Value {
    let mut words = path.rsplit(['/', '.']);
    let (name, service) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (input, output) = (
        schemas.reference(&method.input),
        schemas.reference(&method.output),
    );
    let answer = if method.is_stream {
        "text/event-stream"
    } else {
        "application/json"
    };
    json!({
        "operationId": format!("{service}.{name}"),
        "tags": [service],
        "description": method.about,
        "x-access": format!("{:?}", method.access).to_lowercase(),
        "requestBody": { "required": true, "content": { "application/json": { "schema": input } } },
        "responses": {
            "200": { "description": method.output.name(), "content": { answer: { "schema": output } } },
            "default": {
                "description": "What is wrong, or missing",
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
            },
        },
    })
}

fn error() -> Value {
    json!({
        "type": "object",
        "required": ["code", "message"],
        "properties": { "code": { "type": "string" }, "message": { "type": "string" } },
    })
}

#[derive(Default)]
struct Schemas {
    made: BTreeMap<String, Value>,
}

impl Schemas {
    /// To a message's schema, which is made when first asked for.
    fn reference(&mut self, message: &MessageDescriptor) -> Value {
        if let Some(known) = well_known(message.full_name()) {
            return known;
        }
        let name = message.full_name().to_owned();
        if !self.made.contains_key(&name) {
            // first, since messages may hold themselves
            self.made.insert(name.clone(), Value::Null);
            let fields = message.fields();
            let properties: Map<String, Value> = fields
                .map(|field| (field.json_name().to_owned(), self.field(&field)))
                .collect();
            let schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
            self.made.insert(name.clone(), schema);
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        if field.is_map()
            && let Kind::Message(entry) = field.kind()
        {
            let value = self.kind(&entry.map_entry_value_field().kind());
            return json!({ "type": "object", "additionalProperties": value });
        }
        let kind = self.kind(&field.kind());
        match field.cardinality() {
            Cardinality::Repeated => json!({ "type": "array", "items": kind }),
            _ => kind,
        }
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Double | Kind::Float => json!({ "type": "number" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({ "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX })
            }
            Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
            // 64 bits are text: JSON's numbers are doubles to most who read them
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({ "type": "string", "pattern": "^-?[0-9]{1,19}$" })
            }
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "pattern": "^[0-9]{1,19}$" }),
            Kind::Enum(words) => {
                let names: Vec<String> = words.values().map(|value| value.name().to_owned()).collect();
                json!({ "type": "string", "enum": names })
            }
            Kind::Message(message) => self.reference(message),
        }
    }
}

/// Messages that JSON has other words for.
fn well_known(name: &str) -> Option<Value> {
    Some(match name {
        "google.protobuf.Timestamp" => json!({ "type": "string", "format": "date-time" }),
        "google.protobuf.Duration" => json!({ "type": "string", "pattern": "^-?[0-9]+([.][0-9]+)?s$" }),
        "google.protobuf.FieldMask" => {
            json!({ "type": "string", "description": "paths, with commas between" })
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_there_and_every_reference_leads_somewhere() {
        let methods = Methods::new().unwrap();
        let document = document(&methods, "1");
        assert_eq!(
            document["paths"].as_object().unwrap().len(),
            methods.all().count()
        );
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let references = text.split("#/components/schemas/").skip(1);
        for name in references.map(|rest| rest.split('"').next().unwrap()) {
            assert!(schemas.get(name).is_some_and(Value::is_object), "{name}");
        }
        let connection = &schemas["portmaster.api.v1.Connection"]["properties"];
        assert_eq!(connection["id"]["type"], "string");
        assert_eq!(
            connection["remote"]["$ref"],
            "#/components/schemas/portmaster.api.v1.Endpoint"
        );
        let counters = &schemas["portmaster.common.v1.ServiceState"]["properties"]["counters"];
        assert_eq!(counters["additionalProperties"]["type"], "string");
    }
}
