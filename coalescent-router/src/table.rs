//! The routing table, and how it changes while frames are routed.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use coalescent_core::TopicName;
use rustc_hash::FxHashMap;

use crate::error::RouteError;
use crate::route::Endpoint;

/// The route that matches every type.
pub(crate) const ANY: &str = "*";

/// A message type, looked up by its bytes: a message holds bytes, and as text they would have to be
/// validated again.
#[derive(Clone, PartialEq, Eq)]
struct Type(Arc<str>);

impl Borrow<[u8]> for Type {
    fn borrow(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Hash for Type {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_bytes().hash(state);
    }
}

/// The routes of a router.
pub(crate) struct Table<S> {
    /// Uses an unkeyed hash, which is fast. That is safe because the keys come from the
    /// application; peers only cause lookups.
    routes: FxHashMap<Type, Endpoint<S>>,
    /// Fallbacks by prefix, longest prefix first. The empty prefix is the router's own fallback,
    /// the others belong to nested routers.
    fallbacks: Vec<(Arc<str>, Endpoint<S>)>,
    /// The routes of topics, which have no topics of their own.
    topics: FxHashMap<TopicName, Self>,
}

impl<S> Table<S> {
    /// Returns whether there are no routes and no fallbacks.
    pub(crate) fn is_empty(&self) -> bool {
        self.routes.is_empty()
            && self.fallbacks.is_empty()
            && self.topics.values().all(Self::is_empty)
    }

    /// Returns whether there are routes other than fallbacks.
    pub(crate) fn has_routes(&self) -> bool {
        !self.routes.is_empty() || self.topics.values().any(Self::has_routes)
    }

    /// Returns the topics that have routes of their own.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &TopicName> {
        self.topics.keys()
    }

    /// Returns the handler for messages of type `kind`, or the fallback with the longest matching
    /// prefix.
    pub(crate) fn find(&self, kind: &[u8]) -> Option<&Endpoint<S>> {
        self.routes.get(kind).or_else(|| {
            let mut fallbacks = self.fallbacks.iter();
            fallbacks
                .find(|(prefix, _)| kind.starts_with(prefix.as_bytes()))
                .map(|(_, endpoint)| endpoint)
        })
    }

    /// Returns the handler for messages of type `kind` of a topic: one of the topic's routes, or
    /// this table's own fallback. There is none if the topic has no routes.
    pub(crate) fn find_in(&self, topic: &TopicName, kind: &[u8]) -> Option<&Endpoint<S>> {
        let routes = self.topics.get(topic)?;
        routes.find(kind).or_else(|| {
            let own = self.fallbacks.last();
            own.filter(|(prefix, _)| prefix.is_empty())
                .map(|(_, endpoint)| endpoint)
        })
    }

    /// Adds the routes of a topic, and its fallback.
    pub(crate) fn insert_topic(
        &mut self,
        topic: &TopicName,
        routes: &Self,
    ) -> Result<(), RouteError> {
        if let Some(inner) = routes.topics.keys().next() {
            return Err(RouteError::nested_topic(topic, inner));
        }
        if self.topics.contains_key(topic) {
            return Err(RouteError::topic(topic));
        }
        let mut named = Self::default();
        for (kind, endpoint) in &routes.routes {
            let endpoint = endpoint.clone().named(&name_in(topic, &kind.0));
            named.routes.insert(kind.clone(), endpoint);
        }
        for (prefix, endpoint) in &routes.fallbacks {
            let name = name_in(topic, &format!("{prefix}{ANY}"));
            let endpoint = endpoint.clone().named(&name);
            named.fallbacks.push((Arc::clone(prefix), endpoint));
        }
        self.topics.insert(topic.clone(), named);
        Ok(())
    }

    /// Adds a route, or the fallback if `kind` is [`ANY`].
    pub(crate) fn insert(&mut self, kind: &str, endpoint: Endpoint<S>) -> Result<(), RouteError> {
        if kind == ANY {
            return self.insert_fallback("", endpoint);
        }
        self.check_route(kind)?;
        self.routes.insert(Type(kind.into()), endpoint.named(kind));
        Ok(())
    }

    /// Adds a fallback for types that begin with `prefix`.
    pub(crate) fn insert_fallback(
        &mut self,
        prefix: &str,
        endpoint: Endpoint<S>,
    ) -> Result<(), RouteError> {
        self.check_fallback(prefix)?;
        let at = self
            .fallbacks
            .partition_point(|(other, _)| other.len() >= prefix.len());
        let named = endpoint.named(&format!("{prefix}{ANY}"));
        self.fallbacks.insert(at, (prefix.into(), named));
        Ok(())
    }

    fn check_route(&self, kind: &str) -> Result<(), RouteError> {
        if self.routes.contains_key(kind.as_bytes()) {
            return Err(RouteError::route(kind));
        }
        Ok(())
    }

    fn check_fallback(&self, prefix: &str) -> Result<(), RouteError> {
        if self.fallbacks.iter().any(|(other, _)| **other == *prefix) {
            return Err(RouteError::fallback(prefix));
        }
        Ok(())
    }

    /// Adds all of `other` with `prefix` prepended to each type, or nothing if one of the types is
    /// taken.
    pub(crate) fn merge(&mut self, prefix: &str, other: &Self) -> Result<(), RouteError> {
        let routes = prefixed(prefix, other.routes.iter().map(|(Type(k), e)| (k, e)));
        let fallbacks = prefixed(prefix, other.fallbacks.iter().map(|(k, e)| (k, e)));
        for (kind, _) in &routes {
            self.check_route(kind)?;
        }
        for (kind, _) in &fallbacks {
            self.check_fallback(kind)?;
        }
        if let Some(topic) = other
            .topics
            .keys()
            .find(|name| self.topics.contains_key(*name))
        {
            return Err(RouteError::topic(topic));
        }
        for (topic, routes) in &other.topics {
            self.insert_topic(topic, routes)?;
        }
        for (kind, endpoint) in routes {
            let endpoint = endpoint.named(&kind);
            self.routes.insert(Type(kind), endpoint);
        }
        for (kind, endpoint) in fallbacks {
            self.insert_fallback(&kind, endpoint)?;
        }
        Ok(())
    }

    /// Removes a route, or the fallback if `kind` is [`ANY`]. Returns whether it existed.
    pub(crate) fn remove(&mut self, kind: &str) -> bool {
        if kind != ANY {
            return self.routes.remove(kind.as_bytes()).is_some();
        }
        let before = self.fallbacks.len();
        self.fallbacks.retain(|(prefix, _)| !prefix.is_empty());
        self.fallbacks.len() != before
    }

    /// Creates a table with the same types and mapped endpoints.
    pub(crate) fn map<S2>(
        &self,
        route: impl Fn(&Endpoint<S>) -> Endpoint<S2>,
        fallback: impl Fn(&Endpoint<S>) -> Endpoint<S2>,
    ) -> Table<S2> {
        let topics = self.topics.iter();
        Table {
            topics: topics
                .map(|(topic, routes)| {
                    let name = |kind: &str| name_in(topic, kind);
                    (topic.clone(), routes.map_here(&route, &fallback, name))
                })
                .collect(),
            ..self.map_here(&route, &fallback, str::to_owned)
        }
    }

    /// Maps the endpoints but those of topics, and names them.
    fn map_here<S2>(
        &self,
        route: impl Fn(&Endpoint<S>) -> Endpoint<S2>,
        fallback: impl Fn(&Endpoint<S>) -> Endpoint<S2>,
        name: impl Fn(&str) -> String,
    ) -> Table<S2> {
        let routes = self.routes.iter();
        let fallbacks = self.fallbacks.iter();
        let any = |prefix: &Arc<str>| name(&format!("{prefix}{ANY}"));
        Table {
            routes: routes
                .map(|(k, e)| (k.clone(), route(e).named(&name(&k.0))))
                .collect(),
            fallbacks: fallbacks
                .map(|(k, e)| (Arc::clone(k), fallback(e).named(&any(k))))
                .collect(),
            topics: FxHashMap::default(),
        }
    }
}

/// Returns the name of a topic's route for spans and metrics.
fn name_in(topic: &TopicName, kind: &str) -> String {
    format!("{topic}:{kind}")
}

fn prefixed<'a, S: 'a>(
    prefix: &str,
    entries: impl Iterator<Item = (&'a Arc<str>, &'a Endpoint<S>)>,
) -> Vec<(Arc<str>, Endpoint<S>)> {
    let key = |kind: &Arc<str>| {
        if prefix.is_empty() {
            Arc::clone(kind)
        } else {
            format!("{prefix}{kind}").into()
        }
    };
    entries
        .map(|(kind, endpoint)| (key(kind), endpoint.clone()))
        .collect()
}

impl<S> Default for Table<S> {
    fn default() -> Self {
        Self {
            routes: FxHashMap::default(),
            fallbacks: Vec::new(),
            topics: FxHashMap::default(),
        }
    }
}

impl<S> Clone for Table<S> {
    fn clone(&self) -> Self {
        Self {
            routes: self.routes.clone(),
            fallbacks: self.fallbacks.clone(),
            topics: self.topics.clone(),
        }
    }
}

impl<S> fmt::Debug for Table<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Counts only: there may be thousands of routes.
        f.debug_struct("Table")
            .field("routes", &self.routes.len())
            .field("fallbacks", &self.fallbacks.len())
            .field("topics", &self.topics.len())
            .finish()
    }
}

/// A table that can be replaced while frames are routed.
///
/// A change creates a new table. Services keep the table they have and check for a newer one at
/// every frame, with one atomic load.
pub(crate) struct LiveTable<S> {
    table: RwLock<Arc<Table<S>>>,
    generation: AtomicU64,
    warned: AtomicBool,
}

impl<S> LiveTable<S> {
    pub(crate) fn new(table: Arc<Table<S>>) -> Self {
        Self {
            table: RwLock::new(table),
            generation: AtomicU64::new(0),
            warned: AtomicBool::new(false),
        }
    }

    /// Returns the current table.
    pub(crate) fn table(&self) -> Arc<Table<S>> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the number of changes so far.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Changes the table. It is copied only if a service still holds the previous one.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Table<S>) -> R) -> R {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(Arc::make_mut(&mut table));
        self.generation.fetch_add(1, Ordering::Release);
        result
    }

    /// Logs a warning, once, that a frame has no message.
    pub(crate) fn warn_no_message(&self) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "a frame without a message reached the router and was passed on: put a courier \
                 outside of the router, which parses messages"
            );
        }
    }
}

impl<S> Clone for LiveTable<S> {
    fn clone(&self) -> Self {
        Self::new(self.table())
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
