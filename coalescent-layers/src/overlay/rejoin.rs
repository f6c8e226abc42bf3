//! Joins a topic once more, when it is time.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use super::ids::{Key, TopicId};
use super::joiner::Why;
use super::state::{After, State};

/// After this time without a neighbour, those are dialled too whom other sources suggest.
pub const ALONE_FOR: Duration = Duration::from_secs(3);

impl State {
    /// Returns whether this node has no neighbour in the mesh itself.
    pub(crate) fn is_alone(&self) -> bool {
        let itself = self.topics.get(&self.itself);
        itself.is_none_or(|part| part.places.len() == 0)
    }

    /// Returns whether this node has had no neighbour for a while, and if it has none, when that
    /// will have been a while.
    pub(crate) fn has_been_alone(&mut self, now: Instant) -> (bool, Option<Instant>) {
        if !self.is_alone() {
            self.alone_since = None;
            return (false, None);
        }
        let due = *self.alone_since.get_or_insert(now) + ALONE_FOR;
        (due <= now, (due > now).then_some(due))
    }

    /// Joins those topics once more for which it is time.
    pub(crate) fn rejoin(&mut self, now: Instant, after: &mut Vec<After>) {
        let few = self.few();
        let mut due = Vec::new();
        for (topic, part) in &mut self.topics {
            let neighbours = part.places.len();
            if let Some(why) = part.joiner.due(neighbours, few, now, &mut self.rng) {
                due.push((*topic, why));
            }
        }
        for (topic, why) in due {
            self.join_somebody(topic, why, now, after);
        }
    }

    /// Joins a topic through somebody: a seed, or one whose address is known.
    fn join_somebody(&mut self, topic: TopicId, why: Why, now: Instant, after: &mut Vec<After>) {
        tracing::debug!(?topic, ?why, "joining once more");
        // Seeds know of nodes that those nodes do not know who know each other.
        if topic == self.itself && self.rng.random() && self.seeds.again(now, &mut self.rng) {
            return;
        }
        match self.somebody(topic) {
            Some(key) => self.join(topic, key, now, after),
            None => {
                self.seeds.again(now, &mut self.rng);
            }
        }
    }

    /// Returns a random node that is no neighbour in a topic.
    fn somebody(&mut self, topic: TopicId) -> Option<Key> {
        let part = self.topics.get(&topic)?;
        let mut keys: Vec<_> = self.known.keys().chain(self.links.keys()).collect();
        keys.retain(|key| !part.places.contains(key));
        let at = self.rng.random_range(0..keys.len().max(1));
        keys.get(at).map(|key| **key)
    }
}
