//! The transports of an app, each for its schemes.

use std::sync::Arc;

use super::{Protection, Transport};
use crate::error::Error;
use crate::transport::address::{Address, IROH, TCP, UNIX, WS, WSS};
use crate::transport::identity::PublicKey;

/// The transports of an app: of each scheme one.
#[derive(Clone, Default)]
pub(crate) struct Transports(Vec<(String, Arc<dyn Transport>)>);

/// The transport of a scheme.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) transport: &'a dyn Transport,
    pub(crate) protection: Protection,
}

impl Transports {
    /// Adds a transport for its schemes, in place of those that have been there for them.
    pub(crate) fn add(&mut self, transport: impl Transport) {
        let transport: Arc<dyn Transport> = Arc::new(transport);
        for scheme in transport.schemes() {
            let scheme = scheme.to_ascii_lowercase();
            self.0.retain(|(known, _)| *known != scheme);
            self.0.push((scheme, Arc::clone(&transport)));
        }
    }

    /// Returns the transport of a scheme.
    pub(crate) fn get(&self, scheme: &str) -> Option<Route<'_>> {
        let known = self.0.iter().find(|(known, _)| known == scheme);
        known.map(|(scheme, transport)| Route {
            transport: &**transport,
            protection: transport.protection(scheme),
        })
    }

    /// Returns how connections are secured that come to a listener at `address` which none of the
    /// transports has made.
    ///
    /// One of a scheme that the app has no transport for is taken for one that secures nothing. So
    /// is one of `tcp`, which may be a bare socket, whatever the app has in the place of TCP; but
    /// where that proves keys, nobody gets in without one.
    pub(crate) fn protection_of_given(&self, address: &Address) -> Protection {
        let scheme = address.scheme();
        match self.get(scheme).map(|route| route.protection) {
            Some(Protection::Local | Protection::Encrypted) if scheme == TCP => Protection::Plain,
            Some(protection) => protection,
            None => Protection::Plain,
        }
    }

    /// Returns the transport for an address to dial.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if there is none of its scheme.
    pub(crate) fn dialling(&self, address: &Address) -> Result<Route<'_>, Error> {
        let scheme = address.scheme();
        self.get(scheme)
            .ok_or_else(|| self.unknown(&address.to_string(), scheme))
    }

    /// Returns the transport for a text that says where to listen, and what it is to be given.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if there is none of its scheme.
    pub(crate) fn listening<'a>(&self, text: &'a str) -> Result<(Route<'_>, &'a str), Error> {
        let named = Address::scheme_in(text).map(str::to_ascii_lowercase);
        if let Some(scheme) = &named {
            let route = self.get(scheme).ok_or_else(|| self.unknown(text, scheme))?;
            let text = match scheme == TCP {
                // The transports of hosts and ports take just these.
                true => text.split_once("://").map_or(text, |(_, rest)| rest),
                false => text,
            };
            return Ok((route, text));
        }
        // A scheme that needs no more than its name, such as `iroh:`.
        let bare = text.strip_suffix(':').map(str::to_ascii_lowercase);
        if let Some(scheme) = &bare {
            if let Some(route) = self.get(scheme) {
                return Ok((route, text));
            }
            if [IROH, UNIX, WS, WSS].contains(&&**scheme) {
                return Err(self.unknown(text, scheme));
            }
        }
        let route = self.get(TCP).ok_or_else(|| self.unknown(text, TCP))?;
        Ok((route, text))
    }

    fn unknown(&self, what: &str, scheme: &str) -> Error {
        let known: Vec<&str> = self.0.iter().map(|(known, _)| &**known).collect();
        let known = known.join(", ");
        let remedy = match scheme {
            WS => {
                "add `App::transport(coalescent::websocket::Ws::new())`, of the feature `websocket`"
            }
            WSS => "add `App::transport(coalescent::websocket::Ws::new())`, of the feature `wss`",
            IROH => "the crate coalescent-iroh brings one",
            _ => "add one with `App::transport`",
        };
        let what: String = what.chars().take(SHOWN).collect();
        Error::config(format!(
            "{what:?}: the app has no transport for the scheme {scheme} (it has {known}); {remedy}"
        ))
    }

    /// Whether one of them proves keys itself.
    pub(crate) fn prove_keys(&self) -> bool {
        let mut all = self.0.iter();
        all.any(|(scheme, transport)| transport.protection(scheme) == Protection::Keys)
    }

    /// Returns the key that they prove as this node's, if that is known.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if they, or `identity`, are not of one key: peers would see
    /// several nodes.
    pub(crate) fn key(&self, identity: Option<PublicKey>) -> Result<Option<PublicKey>, Error> {
        let mut known = identity.map(|key| ("identity", key));
        for (scheme, transport) in &self.0 {
            let Some(key) = transport.key() else { continue };
            match known {
                Some((other, known)) if known != key => {
                    return Err(Error::config(format!(
                        "the transport for {scheme} proves the key {key}, and the app's {other} \
                         {known}: make both of one secret key"
                    )));
                }
                _ => known = Some((scheme, key)),
            }
        }
        Ok(known.map(|(_, key)| key))
    }
}

/// How many characters of an address an error quotes: 96, so that one of a key is whole.
const SHOWN: usize = 96;
