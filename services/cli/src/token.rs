//! `portmaster token`: who may use the API by a secret instead of by his user.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use api::v1::{
    CreateTokenRequest, ListTokensRequest, RevokeTokenRequest, Scope, Token, tokens_client::TokensClient,
};
use clap::{Args, Subcommand, ValueEnum};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::{
    clock,
    dns::PlainArgs,
    output::print,
    paint::Paint,
    place::{PlaceArgs, Service},
    printable::{json_line, printable},
    table::{Cell, table},
};

/// `portmaster token`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make one; its secret is shown this once
    Create(CreateArgs),
    /// List those that hold
    List(PlainArgs),
    /// End one; it holds no more from now on
    Revoke(RevokeArgs),
}

/// `portmaster token create`
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// By which it is known in lists and logs: letters, digits, `-`, `_`, `.`
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// What it lets do
    #[arg(long, value_enum, value_name = "SCOPE")]
    pub scope: ScopeWord,
    /// How long it holds: `90d`, `12h` [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = ttl)]
    pub ttl: Option<u64>,
    /// What is common
    #[command(flatten)]
    pub plain: PlainArgs,
}

/// `portmaster token revoke`
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What is common
    #[command(flatten)]
    pub plain: PlainArgs,
}

/// What a token lets do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScopeWord {
    /// See connections, names, profiles, services
    Read,
    /// Also change what is decided: pause, flush, close
    Decide,
    /// Also restart services, and make tokens
    Admin,
}

impl From<ScopeWord> for Scope {
    fn from(word: ScopeWord) -> Self {
        match word {
            ScopeWord::Read => Self::Read,
            ScopeWord::Decide => Self::Decide,
            ScopeWord::Admin => Self::Admin,
        }
    }
}

/// `90d` is no time of a friendly calendar without a date; here a day has 24 hours.
fn ttl(text: &str) -> Result<u64, String> {
    let days = text
        .strip_suffix('d')
        .and_then(|days| days.trim().parse::<u64>().ok());
    let seconds = match days {
        Some(days) => days.checked_mul(24 * 60 * 60),
        None => text
            .parse::<SignedDuration>()
            .ok()
            .and_then(|span| u64::try_from(span.as_secs()).ok()),
    };
    let seconds = seconds.filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| "give a time like `90d`, `12h` or `30m`".to_owned())
}

fn client(place: &PlaceArgs) -> TokensClient<Channel> {
    TokensClient::new(place.channel(Service::ApiGateway))
}

pub(crate) async fn run(command: TokenCommand, paint: Paint) -> Result<ExitCode> {
    match command {
        TokenCommand::Create(args) => create(args).await,
        TokenCommand::List(args) => list(args, paint).await,
        TokenCommand::Revoke(args) => revoke(args).await,
    }
}

async fn create(args: CreateArgs) -> Result<ExitCode> {
    let request = CreateTokenRequest {
        name: args.name,
        scope: Scope::from(args.scope).into(),
        ttl_seconds: args.ttl.unwrap_or(0),
    };
    let place = &args.plain.place;
    let made = place.answer(Service::ApiGateway, client(place).create(request).await)?;
    let token = made.token.ok_or_else(|| anyhow!("the gateway made no token"))?;
    if args.plain.json {
        let mut value = token_json(&token);
        if let Value::Object(fields) = &mut value {
            fields.insert("secret".to_owned(), made.secret.into());
        }
        return print(&json_line(&value)?);
    }
    // the secret alone, so that it can go straight into a file
    eprintln!("Keep it: it is not shown again. Use it as `Authorization: Bearer …` on http://127.0.0.1:817.");
    print(&format!("{}\n", made.secret))
}

async fn list(args: PlainArgs, paint: Paint) -> Result<ExitCode> {
    let place = &args.place;
    let reply = client(place).list(ListTokensRequest {}).await;
    let tokens = place.answer(Service::ApiGateway, reply)?.tokens;
    if args.json {
        let lines = tokens.iter().map(|token| json_line(&token_json(token)));
        return print(&lines.collect::<Result<String, _>>()?);
    }
    if tokens.is_empty() {
        return print("no tokens; `portmaster token create` makes one\n");
    }
    let time = |time: Option<&prost_types::Timestamp>, none: &str| {
        Cell::plain(time.map_or_else(|| none.to_owned(), |time| clock::rfc3339(Some(time))))
    };
    let rows: Vec<_> = tokens
        .iter()
        .map(|token| {
            [
                Cell::plain(printable(&token.name).to_string()),
                Cell::plain(word(token.scope())),
                time(token.created.as_ref(), ""),
                time(token.expires.as_ref(), "never"),
                time(token.last_used.as_ref(), "never"),
            ]
        })
        .collect();
    print(&table(
        ["NAME", "SCOPE", "CREATED", "EXPIRES", "LAST USED"],
        &rows,
        paint,
    ))
}

async fn revoke(args: RevokeArgs) -> Result<ExitCode> {
    let place = &args.plain.place;
    let reply = client(place).revoke(RevokeTokenRequest { name: args.name }).await;
    place.answer(Service::ApiGateway, reply)?;
    print("revoked\n")
}

const fn word(scope: Scope) -> &'static str {
    match scope {
        Scope::Unspecified => "?",
        Scope::Read => "read",
        Scope::Decide => "decide",
        Scope::Admin => "admin",
    }
}

fn token_json(token: &Token) -> Value {
    let time = |time: Option<&prost_types::Timestamp>| time.map(|time| clock::rfc3339(Some(time)));
    json!({
        "name": token.name,
        "scope": word(token.scope()),
        "created": time(token.created.as_ref()),
        "expires": time(token.expires.as_ref()),
        "last_used": time(token.last_used.as_ref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(ttl("90d"), Ok(90 * 86_400));
        assert_eq!(ttl("12h"), Ok(43_200));
        assert_eq!(ttl("1h 30m"), Ok(5_400));
        for text in ["", "0s", "-1h", "soon", "d", "99999999999999999d"] {
            assert!(ttl(text).is_err(), "{text}");
        }
    }
}
