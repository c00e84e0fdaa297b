//! `/openapi.json` says what every method takes and gives: each is called with what fits and with what does not, and answers as it
//! says.

use std::fmt::Write as _;

use integration::{NameServer, Service, World, world::INTERNET_V4};
use serde_json::{Map, Value, json};

use super::line::Line;

/// Calls of each method, with what fits and with what does not.
const CALLS: usize = 8;
/// Enough of messages in messages.
const DEPTH: usize = 5;
const ERRORS: [(&str, u16); 11] = [
    ("invalid_argument", 400),
    ("failed_precondition", 400),
    ("out_of_range", 400),
    ("unauthenticated", 401),
    ("permission_denied", 403),
    ("not_found", 404),
    ("already_exists", 409),
    ("aborted", 409),
    ("resource_exhausted", 429),
    ("unavailable", 503),
    ("deadline_exceeded", 504),
];

#[test]
fn every_method_answers_as_its_document_says() {
    let world = whole("schema");
    let _names = names(&world);
    let mut line = Line::open(&world);
    let document = line.ask("GET", "/openapi.json", "", b"").unwrap().json();
    let mut tester = Tester {
        schemas: document["components"]["schemas"].clone(),
        state: 0x17,
    };
    let mut wrong = String::new();
    let (mut asked, mut fine) = (0, 0);
    for (path, operations) in document["paths"].as_object().unwrap() {
        let operation = &operations["post"];
        let input = &operation["requestBody"]["content"]["application/json"]["schema"];
        let output = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        let is_stream = output.is_null();
        for number in 0..CALLS {
            let message = tester.bad(input, number);
            let answer = line.call(path, &message).unwrap();
            asked += 1;
            if answer.code != 400 || tester.error(&answer.text, answer.code).is_some() {
                writeln!(wrong, "{path} takes {message:.200}: {answer:?}").unwrap();
            }
        }
        if is_stream {
            let output = &operation["responses"]["200"]["content"]["text/event-stream"]["schema"];
            assert!(!output.is_null(), "{path} answers in no form");
            cached(&world);
            let messages = streamed(&world, path);
            // they say something at once
            if messages.is_empty() {
                writeln!(wrong, "{path} says nothing").unwrap();
            }
            for message in messages {
                if let Some(problem) = tester.problem(output, &message, path) {
                    writeln!(wrong, "{path}: {problem}").unwrap();
                }
            }
        }
        for _ in 0..if is_stream { 0 } else { CALLS } {
            let message = tester.good(input, 0).to_string();
            let answer = line.call(path, &message).unwrap();
            asked += 1;
            let problem = match answer.code {
                200 => {
                    fine += 1;
                    tester.problem(output, &answer.json(), path)
                }
                code => tester.error(&answer.text, code),
            };
            if let Some(problem) = problem {
                writeln!(wrong, "{path} with {message:.300}: {problem}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(asked > 400 && fine > 80, "{asked} calls, {fine} of them done");
    assert_eq!(
        line.call("/portmaster.api.v1.System/GetVersion", "{}")
            .unwrap()
            .code,
        200
    );
}

/// All services, a name server for them, and a gateway that counts no calls.
pub(crate) fn whole(label: &str) -> World {
    let mut world = World::builder(label)
        .with(Service::Dns)
        .with(Service::Gate17Entry)
        .config_file(
            "dns.toml",
            &format!("[resolve.upstreams]\nservers = [\"udp://{INTERNET_V4}\"]\n"),
        )
        .config_file("api-gateway.toml", "calls_per_second = 1000000\n")
        .start();
    world.start_service(Service::ApiGateway);
    world
}

/// Whom the DNS service asks.
pub(crate) fn names(world: &World) -> NameServer {
    let records = [format!("address=/cached.example/{INTERNET_V4}")];
    NameServer::start(
        &world.internet,
        &world.internet_addresses(),
        &records,
        world.root(),
    )
}

/// So that there is something in the cache.
pub(crate) fn cached(world: &World) {
    let mut dig = world.host.command("dig");
    let output = dig
        .args(["@127.0.0.1", "+short", "cached.example"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.trim(), INTERNET_V4.to_string(), "{output:?}");
}

/// What a stream says within a second, as server-sent events have it, asked for as a browser's `EventSource` does.
fn streamed(world: &World, path: &str) -> Vec<Value> {
    let mut command = world.host.command("curl");
    // what lasts is ended by curl
    command.args(["-sSN", "--max-time", "1.5", "-H", "accept: text/event-stream"]);
    let output = command
        .arg(format!("http://127.0.0.1:817{path}"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|error| panic!("{path}: {error}: {data}")))
        .collect()
}

struct Tester {
    schemas: Value,
    state: u64,
}

impl Tester {
    /// xorshift64: the same at each run.
    fn next(&mut self, below: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state % below as u64).unwrap()
    }

    fn of(&self, schema: &Value) -> Value {
        match schema["$ref"].as_str() {
            Some(name) => self.schemas[name.rsplit('/').next().unwrap()].clone(),
            None => schema.clone(),
        }
    }

    fn one<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.next(words.len())]
    }

    /// A message that fits.
    fn good(&mut self, schema: &Value, depth: usize) -> Value {
        let schema = self.of(schema);
        match schema["type"].as_str().unwrap_or_default() {
            "boolean" => (self.next(2) == 0).into(),
            "number" => json!(self.next(1000) as f64 / 8.0),
            "integer" => {
                let (least, most) = (
                    schema["minimum"].as_i64().unwrap(),
                    schema["maximum"].as_i64().unwrap(),
                );
                [least, most, 1, 17, 443, 70_000][self.next(6)].into()
            }
            "array" if depth > DEPTH => json!([]),
            "array" => {
                let count = self.next(3);
                (0..count)
                    .map(|_| self.good(&schema["items"], depth + 1))
                    .collect()
            }
            "object" => {
                let mut object = Map::new();
                let properties = schema["properties"].as_object().cloned().unwrap_or_default();
                // of a `oneof` at most one fits: those are left to chance, and refused in words
                for (name, property) in properties {
                    if depth <= DEPTH && self.next(3) > 0 {
                        object.insert(name, self.good(&property, depth + 1));
                    }
                }
                Value::Object(object)
            }
            _ => self.text(&schema),
        }
    }

    fn text(&mut self, schema: &Value) -> Value {
        if let Some(words) = schema["enum"].as_array() {
            return words[self.next(words.len())].clone();
        }
        match (schema["pattern"].as_str(), schema["format"].as_str()) {
            (Some(pattern), _) if pattern.ends_with("s$") => self.one(&["0s", "3600s", "1.5s"]).into(),
            (Some(_), _) => self.one(&["0", "1", "60", "9223372036854775807"]).into(),
            (_, Some("date-time")) => self.one(&["2027-01-31T12:00:00Z", "1970-01-01T00:00:00Z"]).into(),
            _ if schema["contentEncoding"] == "base64" => self.one(&["", "AAAA", "fwAAAQ=="]).into(),
            _ if schema["description"] == "paths, with commas between" => self.one(&["", "id"]).into(),
            _ => {
                let words = [
                    "",
                    "x",
                    "/usr/bin/curl",
                    "10.0.0.1",
                    "2001:db8::1",
                    "example.org",
                    "dns",
                    "\u{0}\u{7f}",
                    "ünï©ode",
                    "../../etc/passwd",
                    "443",
                    "lan",
                    "[[match]]\npath = \"/usr/bin/x\"\n",
                ];
                self.one(&words).into()
            }
        }
    }

    /// What no message of this kind can be, as text.
    fn bad(&mut self, schema: &Value, number: usize) -> String {
        let schema = self.of(schema);
        let properties = schema["properties"].as_object().cloned().unwrap_or_default();
        let names: Vec<&String> = properties.keys().collect();
        let mut message = self.good(&schema, 0);
        match number {
            0 => "[]".into(),
            1 => "\"text\"".into(),
            2 => message.to_string()[..1].into(),
            3 => format!("{}{}", "[".repeat(5000), "]".repeat(5000)),
            4 => "{\"\u{1}\": \"\\ud800\"}".into(),
            5 | 6 if !names.is_empty() => {
                let name = names[self.next(names.len())];
                let of = self.of(&properties[name]);
                message[name] = match of["type"].as_str().unwrap_or_default() {
                    "object" => json!("no object"),
                    "integer" => {
                        [json!(u64::MAX), json!(-5_000_000_000_i64), json!(1.5)][self.next(3)].clone()
                    }
                    "array" => json!({ "no": "list" }),
                    "string" if of["enum"].is_array() => json!("NO_SUCH_WORD"),
                    _ => json!({ "no": ["text"] }),
                };
                message.to_string()
            }
            _ => {
                message["no_such_field"] = 1.into();
                message.to_string()
            }
        }
    }

    /// Why this is no error as the document has it.
    fn error(&self, text: &str, code: u16) -> Option<String> {
        let Ok(error) = serde_json::from_str::<Value>(text) else {
            return Some(format!("{code} without JSON: {text}"));
        };
        let word = error["code"].as_str().unwrap_or_default();
        let message = error["message"].as_str().unwrap_or_default();
        let known = ERRORS.contains(&(word, code));
        (!known || message.is_empty()).then(|| format!("{code} {text}"))
    }

    /// Why an answer is not what the document says.
    fn problem(&self, schema: &Value, answer: &Value, at: &str) -> Option<String> {
        let schema = self.of(schema);
        let unfit = |what: &str| Some(format!("{at} is {answer}, not {what}"));
        match schema["type"].as_str().unwrap_or_default() {
            "object" => {
                let Some(object) = answer.as_object() else {
                    return unfit("an object");
                };
                object.iter().find_map(|(name, value)| {
                    let at = format!("{at}.{name}");
                    match (&schema["properties"][name], &schema["additionalProperties"]) {
                        (Value::Null, Value::Bool(false)) => Some(format!("{at} is not in the document")),
                        (Value::Null, of) => self.problem(of, value, &at),
                        (of, _) => self.problem(of, value, &at),
                    }
                })
            }
            "array" => match answer.as_array() {
                Some(items) => items
                    .iter()
                    .find_map(|item| self.problem(&schema["items"], item, at)),
                None => unfit("a list"),
            },
            "boolean" if !answer.is_boolean() => unfit("a boolean"),
            "integer" => {
                let fits = |number: i64| {
                    (schema["minimum"].as_i64()..=schema["maximum"].as_i64()).contains(&Some(number))
                };
                if answer.as_i64().is_some_and(fits) {
                    None
                } else {
                    unfit("such a number")
                }
            }
            "string" => match (
                answer.as_str(),
                schema["enum"].as_array(),
                schema["pattern"].as_str(),
            ) {
                (None, ..) => unfit("text"),
                (Some(_), Some(words), _) if !words.contains(answer) => unfit("one of the words"),
                (Some(text), _, Some(pattern)) => {
                    let signs = if pattern.ends_with("s$") { "-.s" } else { "-" };
                    let fits = text
                        .chars()
                        .all(|sign| sign.is_ascii_digit() || signs.contains(sign));
                    if fits { None } else { unfit(pattern) }
                }
                _ => None,
            },
            _ => None,
        }
    }
}
