//! Parsing addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::error::AddressProblem;
use super::{Address, IROH, Other, PATH_MAX, SCHEME_MAX, TCP, UNIX, WS, WSS};
use crate::transport::identity::{PublicKey, parse_hex};

/// Parses an address of any scheme.
pub(super) fn parse(text: &str) -> Result<Address, AddressProblem> {
    let Some((name, rest)) = split(text) else {
        return tcp(text);
    };
    let scheme = name.to_ascii_lowercase();
    let Some(behind) = rest.strip_prefix("//") else {
        return hostless(&scheme, rest);
    };
    let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
    let (place, path) = behind.split_at(end);
    if scheme == TCP {
        return match path {
            "" => tcp(place),
            _ => Err(AddressProblem::AfterPort),
        };
    }
    let is_web = scheme == WS || scheme == WSS;
    if !is_web && (place.is_empty() || parse_hex(place).is_some()) {
        // `unix:///path`, or `iroh://ID`
        return hostless(&scheme, behind);
    }
    match &*scheme {
        UNIX => return Err(AddressProblem::UnixPath),
        IROH => return Err(AddressProblem::Key),
        _ => {}
    }
    let default = match &*scheme {
        WS => Some(80),
        WSS => Some(443),
        // 0 stands for none.
        _ => Some(0),
    };
    let address = host_and_port(place, default)?;
    let path = check_path(path, is_web)?;
    Ok(Address {
        other: Some(Box::new(Other { scheme, path })),
        ..address
    })
}

/// Splits a text into the name of a scheme, and what follows its colon. `None` if it is, or is
/// meant to be, a `HOST:PORT`.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once(':')?;
    let mut bytes = name.bytes();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-".contains(&byte);
    let is_name = (2..=SCHEME_MAX).contains(&name.len())
        && bytes
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(plain);
    let is_port = || !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    let is_known = || {
        let known = [UNIX, IROH]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known));
        known && !rest.is_empty() && !is_port()
    };
    let is_rest = rest.starts_with(['/', '.']) || leading_id(rest).is_some() || is_known();
    (is_name && is_rest).then_some((name, rest))
}

/// Parses what follows the colon of a scheme, where no host is named: a path, or a key.
fn hostless(scheme: &str, rest: &str) -> Result<Address, AddressProblem> {
    if [TCP, WS, WSS].contains(&scheme) {
        return Err(AddressProblem::Slashes);
    }
    let (id, path) = match leading_id(rest) {
        Some((id, path)) => (Some(owned(id)?), path),
        None if scheme == IROH => return Err(AddressProblem::Key),
        None if !rest.starts_with(['/', '.']) => return Err(AddressProblem::UnixPath),
        None => (None, rest),
    };
    // Two slashes would be read as the beginning of a host.
    if path.starts_with("//") {
        return Err(AddressProblem::Path);
    }
    let other = Other {
        scheme: scheme.to_owned(),
        path: check_path(path, false)?,
    };
    Ok(Address {
        id,
        host: String::new(),
        port: 0,
        other: Some(Box::new(other)),
    })
}

/// Splits a key off the beginning, if it ends there.
fn leading_id(text: &str) -> Option<([u8; 32], &str)> {
    let (id, behind) = text.split_at_checked(64)?;
    let ends = !behind.starts_with(|next: char| next.is_alphanumeric() || next == '@');
    parse_hex(id).filter(|_| ends).map(|id| (id, behind))
}

/// Checks what follows the host or the key. Of a URL it is ASCII without spaces.
fn check_path(path: &str, of_url: bool) -> Result<String, AddressProblem> {
    let is_plain = match of_url {
        true => path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#'),
        false => !path.contains(char::is_control),
    };
    if path.len() > PATH_MAX || !is_plain || path.starts_with(['?', '#']) && of_url {
        return Err(AddressProblem::Path);
    }
    match path {
        "" if of_url => Ok("/".to_owned()),
        _ => Ok(path.to_owned()),
    }
}

fn tcp(text: &str) -> Result<Address, AddressProblem> {
    host_and_port(text, None)
}

/// Parses `[ID@]HOST:PORT`. With a default, the port may be left out.
fn host_and_port(text: &str, default: Option<u16>) -> Result<Address, AddressProblem> {
    let (id, place) = match text.split_once('@') {
        Some((id, place)) => {
            let id = parse_hex(id).ok_or(AddressProblem::Id)?;
            (Some(owned(id)?), place)
        }
        None => (None, text),
    };
    let (host, port) = if let Some(bracketed) = place.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or(AddressProblem::Bracket)?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port),
            None if rest.is_empty() => None,
            None => return Err(AddressProblem::AfterBracket),
        };
        (parse_ipv6(host).ok_or(AddressProblem::Ipv6)?, port)
    } else {
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        };
        if port.is_none() && default.is_none() {
            return Err(AddressProblem::MissingPort);
        }
        if host.contains(':') {
            return Err(AddressProblem::Unbracketed);
        }
        (parse_host(host)?, port)
    };
    let port = match (port, default) {
        (Some(port), _) => parse_port(port)?,
        (None, Some(default)) => default,
        (None, None) => return Err(AddressProblem::MissingPort),
    };
    Ok(Address {
        id,
        host,
        port,
        other: None,
    })
}

/// Checks that there can be somebody who owns this key.
fn owned(id: [u8; 32]) -> Result<PublicKey, AddressProblem> {
    PublicKey::from_bytes(id).map_err(|_| AddressProblem::NoOwner)
}

fn parse_port(text: &str) -> Result<u16, AddressProblem> {
    if text.is_empty() {
        return Err(AddressProblem::MissingPort);
    }
    // The standard parser would accept a sign.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AddressProblem::Port);
    }
    match text.parse() {
        Ok(0) => Err(AddressProblem::PortZero),
        Ok(port) => Ok(port),
        Err(_) => Err(AddressProblem::Port),
    }
}

fn parse_ipv6(text: &str) -> Option<String> {
    let (addr, zone) = match text.split_once('%') {
        Some((addr, zone)) => (addr, Some(zone)),
        None => (text, None),
    };
    let addr: Ipv6Addr = addr.parse().ok()?;
    let Some(zone) = zone else {
        return Some(addr.to_string());
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (!zone.is_empty() && zone.bytes().all(plain)).then(|| format!("{addr}%{zone}"))
}

fn parse_host(text: &str) -> Result<String, AddressProblem> {
    if text.is_empty() {
        return Err(AddressProblem::MissingHost);
    }
    if let Ok(addr) = text.parse::<Ipv4Addr>() {
        return Ok(addr.to_string());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(AddressProblem::Host);
    }
    // Some resolvers read a name that ends in a number as an IPv4 address; 127.1 is one.
    let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    if name.rsplit('.').next().is_some_and(numeric) {
        return Err(AddressProblem::Ipv4);
    }
    Ok(text.to_ascii_lowercase())
}
