//! Why something could not be carried.

use http::{HeaderMap, StatusCode};
use proto::gate17::v1::{Cause, Refused};

/// See the contract's `Cause`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Kind.
    pub cause: Cause,
    /// In words, without addresses.
    pub text: String,
}

impl Refusal {
    /// See the fields.
    pub fn new(cause: Cause, text: impl Into<String>) -> Self {
        Self {
            cause,
            text: text.into(),
        }
    }

    /// What a node answered instead of 200 (`Proxy-Status`, RFC 9209).
    pub fn of_answer(node: &str, status: StatusCode, headers: &HeaderMap) -> Self {
        let said = headers
            .get("proxy-status")
            .and_then(|value| value.to_str().ok())
            .and_then(error_of)
            .unwrap_or_default();
        let cause = match said {
            "connection_refused" | "connection_terminated" => Cause::Refused,
            "destination_unavailable"
            | "destination_ip_unroutable"
            | "destination_not_found"
            | "dns_error" => Cause::Unreachable,
            "connection_timeout" | "dns_timeout" => Cause::Timeout,
            "destination_ip_prohibited" | "http_request_denied" => Cause::Policy,
            "connection_limit_reached" => Cause::Limit,
            _ => Cause::Node,
        };
        let text = match said {
            "" => format!("node {node} answered {status}: it does not carry for this host"),
            said => format!("node {node}: {said}"),
        };
        Self { cause, text }
    }

    /// As the interceptor is told.
    pub fn refused(&self) -> Refused {
        Refused {
            request_id: 0,
            cause: self.cause.into(),
            text: self.text.clone(),
        }
    }
}

/// The value of the parameter `error`.
fn error_of(value: &str) -> Option<&str> {
    value
        .split(';')
        .find_map(|parameter| parameter.trim().strip_prefix("error="))
        .map(|error| error.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_hears_what_the_far_end_said() {
        for (said, cause) in [
            ("node; error=connection_refused", Cause::Refused),
            (
                "node; error=\"connection_timeout\"; details=\"x\"",
                Cause::Timeout,
            ),
            ("node; error=destination_ip_prohibited", Cause::Policy),
            ("node; error=destination_unavailable", Cause::Unreachable),
            ("node", Cause::Node),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("proxy-status", said.parse().unwrap());
            let refusal = Refusal::of_answer("alpha", StatusCode::BAD_GATEWAY, &headers);
            assert_eq!(refusal.cause, cause, "{said}");
        }
        let plain = Refusal::of_answer("alpha", StatusCode::METHOD_NOT_ALLOWED, &HeaderMap::new());
        assert_eq!(plain.cause, Cause::Node);
    }
}
