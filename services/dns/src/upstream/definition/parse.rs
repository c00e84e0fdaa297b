//! From text to a definition.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use rustls::pki_types::ServerName;

use super::{Definition, DefinitionError, Transport};

const SCHEMES: [Transport; 6] = [
    Transport::Udp,
    Transport::Tcp,
    Transport::Tls,
    Transport::Https,
    Transport::H3,
    Transport::Quic,
];

/// Where a HTTP resource is looked for when none is named (RFC 8484's own example, and what everybody uses).
const PATH: &str = "/dns-query";

/// See [`Definition`].
pub(super) fn parse(text: &str) -> Result<Definition, DefinitionError> {
    let fail = |problem: String| DefinitionError::new(text, problem);
    let (scheme, rest) = text.split_once("://").ok_or_else(|| fail(missing_scheme(text)))?;
    let transport = SCHEMES
        .into_iter()
        .find(|known| known.scheme() == scheme)
        .ok_or_else(|| {
            fail(format!(
                "unknown scheme {scheme:?}; write udp://, tcp://, tls://, https://, h3:// or quic://"
            ))
        })?;
    let (rest, fragment) = match rest.split_once('#') {
        Some((rest, name)) => (rest, Some(name)),
        None => (rest, None),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if !transport.has_path() && !path.is_empty() {
        return Err(fail(format!("{scheme}:// has no path; leave out {path:?}")));
    }
    let (host, port) = authority_parts(authority).map_err(&fail)?;
    let port = port.unwrap_or_else(|| transport.port());
    let address = host_address(host, port).map_err(&fail)?;
    let name = name_of(transport, host, address, fragment).map_err(&fail)?;
    Ok(Definition {
        label: text.into(),
        transport,
        name: name.into(),
        addresses: address.into_iter().collect(),
        port,
        path: path_of(transport, path).into(),
        ca_file: None,
        case_randomisation: true,
        cookies: true,
    })
}

/// An address with or without a port, as in `9.9.9.9`, `9.9.9.9:5353`, `2620:fe::fe`, `[2620:fe::fe]:5353`.
pub(super) fn address(text: &str, port: u16) -> Option<SocketAddr> {
    if let Some(whole) = scoped(text, port) {
        return Some(whole);
    }
    let (host, own) = authority_parts(text).ok()?;
    host_address(host, own.unwrap_or(port)).ok().flatten()
}

fn missing_scheme(text: &str) -> String {
    match address(text, 53) {
        Some(_) => format!(
            "say how it is spoken to: udp://{text} (in the clear), or tls://{text}#NAME with the name on its certificate"
        ),
        None => {
            "say how it is spoken to, as in tls://9.9.9.9#dns.quad9.net or https://dns.quad9.net/dns-query"
                .to_owned()
        }
    }
}

/// Host and port; an IPv6 address stands in brackets.
fn authority_parts(text: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest
                .split_once(']')
                .ok_or("the bracket of the address is not closed; write [2620:fe::fe]")?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => {
                    return Err(format!(
                        "{after:?} after the address; a port is written as [ADDRESS]:853"
                    ));
                }
            }
        }
        None if text.matches(':').count() > 1 => {
            return Err(format!("an IPv6 address stands in brackets: [{text}]"));
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err("no server is named; write its address or name after ://".to_owned());
    }
    let port = port.map(|port| {
        let number = port.parse::<u16>().ok().filter(|number| *number > 0);
        number.ok_or_else(|| format!("{port:?} is no port; write a number from 1 to 65535"))
    });
    Ok((host, port.transpose()?))
}

/// `Ok(None)` for a name.
fn host_address(host: &str, port: u16) -> Result<Option<SocketAddr>, String> {
    match scoped(host, port) {
        Some(address) if address.ip().is_unspecified() || address.ip().is_multicast() => Err(format!(
            "{host} is the address of no server; write the server's own"
        )),
        Some(address) => Ok(Some(address)),
        None if host.contains(':') || host.chars().all(|c| c.is_ascii_digit() || c == '.') => Err(format!(
            "{host:?} is no address; write it as 9.9.9.9 or [2620:fe::fe]"
        )),
        None => Ok(None),
    }
}

/// An address; a link-local one may say its interface by number, as in `fe80::1%2`.
fn scoped(host: &str, port: u16) -> Option<SocketAddr> {
    let Some((address, scope)) = host.split_once('%') else {
        return Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port));
    };
    let (address, scope) = (address.parse::<Ipv6Addr>().ok()?, scope.parse().ok()?);
    Some(SocketAddrV6::new(address, port, 0, scope).into())
}

/// The name that the certificate has to prove.
fn name_of(
    transport: Transport,
    host: &str,
    address: Option<SocketAddr>,
    fragment: Option<&str>,
) -> Result<String, String> {
    if !transport.is_encrypted() {
        return match (fragment, address) {
            (Some(name), _) => Err(format!(
                "in the clear no server proves a name; leave out #{name}, or write tls://{host}#{name}"
            )),
            (None, None) => Err(format!(
                "{host:?} is no address; a server in the clear is given by its address, as in {}://9.9.9.9",
                transport.scheme()
            )),
            (None, Some(_)) => Ok(String::new()),
        };
    }
    let name = match (fragment, address) {
        (Some(name), _) => name.to_owned(),
        (None, Some(address)) => address.ip().to_string(),
        (None, None) => host.to_owned(),
    };
    match ServerName::try_from(name.as_str()) {
        Ok(_) => Ok(name.to_ascii_lowercase()),
        Err(_) => Err(format!(
            "{name:?} is no name that a certificate can prove; write it as in #dns.quad9.net"
        )),
    }
}

fn path_of(transport: Transport, path: &str) -> String {
    let path = path.strip_suffix("{?dns}").unwrap_or(path);
    match transport.has_path() {
        true if path.is_empty() || path == "/" => PATH.to_owned(),
        _ => path.to_owned(),
    }
}
