//! One form for the many spellings of a rule: back ends, versions and hands differ in number bases, default masks,
//! names of protocols and types, and in which order tests stand.

/// A rule's options, sorted: which of its tests comes first changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Canonical(Vec<Clause>);

/// `! --option value`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Clause {
    option: String,
    value: String,
    negated: bool,
}

/// Modules that say nothing beyond the options which need them. Any other module is a test of its own.
const SILENT_MODULES: [&str; 8] = [
    "tcp",
    "udp",
    "icmp6",
    "mark",
    "connmark",
    "conntrack",
    "hl",
    "addrtype",
];

impl Canonical {
    /// Of the text behind `-A CHAIN `. Total: what is not understood is kept as it is.
    pub(super) fn parse(text: &str) -> Self {
        let mut clauses = Vec::new();
        let mut negated = false;
        let mut words = text.split_whitespace().peekable();
        while let Some(word) = words.next() {
            if word == "!" {
                negated = true;
                continue;
            }
            let option = option(word);
            let mut value = String::new();
            while let Some(next) = words.next_if(|next| !next.starts_with('-') && *next != "!") {
                if !value.is_empty() {
                    value.push(' ');
                }
                value.push_str(next);
            }
            let value = normal(option, &value);
            let silent = option == "-m" && SILENT_MODULES.contains(&value.as_str());
            let default = matches!(option, "--nfmask" | "--ctmask") && value == ALL_BITS;
            if !silent && !default {
                clauses.push(Clause {
                    option: option.to_owned(),
                    value,
                    negated,
                });
            }
            negated = false;
        }
        clauses.sort();
        Self(clauses)
    }

    /// The chain or target that it goes to.
    pub(super) fn target(&self) -> Option<&str> {
        self.value("-j", false).or_else(|| self.value("-g", false))
    }

    /// The value that a mark test compares with, whatever its mask.
    pub(super) fn mark(&self) -> Option<u32> {
        let value = self.value("--mark", false)?;
        number(value.split('/').next().unwrap_or(value))
    }

    /// `! -o lo`.
    pub(super) fn not_out_loopback(&self) -> bool {
        self.value("-o", true) == Some("lo")
    }

    fn value(&self, option: &str, negated: bool) -> Option<&str> {
        let mut clauses = self.0.iter();
        clauses
            .find(|clause| clause.option == option && clause.negated == negated)
            .map(|clause| clause.value.as_str())
    }
}

const ALL_BITS: &str = "4294967295";

fn option(word: &str) -> &str {
    match word {
        "--match" => "-m",
        "--jump" => "-j",
        "--goto" => "-g",
        "--protocol" | "--proto" => "-p",
        "--out-interface" => "-o",
        "--in-interface" => "-i",
        "--destination-port" => "--dport",
        "--to" => "--to-destination",
        other => other,
    }
}

fn normal(option: &str, value: &str) -> String {
    match option {
        "-p" => protocol(value).to_owned(),
        "--icmpv6-type" => icmp6_type(value).to_owned(),
        "--reject-with" => reject(value).to_owned(),
        "--mark" | "--nfmask" | "--ctmask" | "--queue-num" | "--hl-eq" => {
            let numbers: Vec<_> = value.split('/').map(decimal).collect();
            match numbers.as_slice() {
                [value, mask] if mask == ALL_BITS => value.clone(),
                _ => numbers.join("/"),
            }
        }
        _ => value.to_owned(),
    }
}

fn decimal(text: &str) -> String {
    number(text).map_or_else(|| text.to_owned(), |number| number.to_string())
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn protocol(name: &str) -> &str {
    match name {
        "1" => "icmp",
        "6" => "tcp",
        "17" => "udp",
        "58" | "icmpv6" | "icmp6" => "ipv6-icmp",
        other => other,
    }
}

fn icmp6_type(name: &str) -> &str {
    match name {
        "router-solicitation" => "133",
        "router-advertisement" => "134",
        "neighbour-solicitation" | "neighbor-solicitation" => "135",
        "neighbour-advertisement" | "neighbor-advertisement" => "136",
        "redirect" => "137",
        other => other,
    }
}

fn reject(name: &str) -> &str {
    match name {
        "host-prohib" => "icmp-host-prohibited",
        "adm-prohibited" => "icmp6-adm-prohibited",
        "tcp-rst" => "tcp-reset",
        other => other,
    }
}
