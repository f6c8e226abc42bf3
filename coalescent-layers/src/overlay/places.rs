//! The neighbours of one topic, and which of them gives way to somebody who must not be refused.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use super::bucket::Bucket;
use super::ids::Key;

/// How often a neighbour gives way to somebody who must not be refused.
pub const FORCED_EVERY: Duration = Duration::from_secs(1);

/// A neighbour does not give way before this time.
pub const YOUNG: Duration = Duration::from_secs(3);

/// So many neighbours do not give way: those that this node has chosen itself, and if these are not
/// as many, those that have lasted longest.
pub const KEPT: usize = 2;

/// How many ids of payloads a neighbour can announce at once, and how often one more.
pub const IDS_AT_ONCE: u32 = 8192;

/// How often a neighbour can announce one more.
pub const ID_EVERY: Duration = Duration::from_millis(4);

/// A neighbour, in one topic.
#[derive(Clone, Debug)]
pub(crate) struct Neighbour {
    since: Instant,
    /// Whether this node has chosen it.
    own: bool,
    /// Which payloads it can still announce.
    pub(crate) ids: Bucket,
    /// Whether payloads of a tree go to it at once, and not their ids alone. A neighbour begins so.
    pub(crate) branch: bool,
}

/// The neighbours of one topic.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// How many there are to be.
    number: usize,
    /// In the order in which they came: a table would have room for twice as many.
    taken: Vec<(Key, Neighbour)>,
    /// When one has last given way.
    forced: Option<Instant>,
}

impl Places {
    /// Makes so many places.
    pub(crate) fn new(number: usize) -> Self {
        Self {
            number,
            taken: Vec::new(),
            forced: None,
        }
    }

    /// Returns how many neighbours there are.
    pub(crate) fn len(&self) -> usize {
        self.taken.len()
    }

    /// Returns whether somebody is a neighbour.
    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.taken.iter().any(|(one, _)| one == key)
    }

    /// Returns a neighbour.
    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut Neighbour> {
        let mut all = self.taken.iter_mut();
        all.find_map(|(one, neighbour)| (one == key).then_some(neighbour))
    }

    /// Returns the neighbours.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.taken.iter().map(|(key, _)| key)
    }

    /// Notes a new neighbour. `own` says that this node has chosen it.
    pub(crate) fn up(&mut self, key: Key, own: bool, now: Instant) {
        let neighbour = Neighbour {
            since: now,
            own,
            ids: Bucket::new(IDS_AT_ONCE, ID_EVERY),
            branch: true,
        };
        match self.get_mut(&key) {
            Some(old) => *old = neighbour,
            None => {
                self.taken.reserve_exact(1);
                self.taken.push((key, neighbour));
            }
        }
    }

    /// Notes that a neighbour is gone.
    pub(crate) fn down(&mut self, key: &Key) {
        self.taken.retain(|(one, _)| one != key);
    }

    /// Says what becomes of somebody who must not be refused, and notes it.
    ///
    /// Whoever has many names could drive out all the neighbours of a node in no time. So it
    /// happens at most every [`FORCED_EVERY`], and neither to those who have just come nor to
    /// [`KEPT`] of the others. A branch of a tree gives way last: all that hang on it would have to
    /// ask for what they miss.
    pub(crate) fn force(&mut self, now: Instant, rng: &mut impl Rng) -> Forced {
        if self.taken.len() < self.number {
            return Forced::Free;
        }
        let passed = |since: Instant| now.saturating_duration_since(since);
        if self.forced.is_some_and(|last| passed(last) < FORCED_EVERY) {
            return Forced::Refused;
        }
        let mut all: Vec<_> = self.taken.iter().collect();
        // Own ones first, and the older before the younger.
        all.sort_unstable_by_key(|(key, one)| (!one.own, one.since, *key));
        let others = all.iter().skip(KEPT);
        let candidates = others.filter(|(_, one)| passed(one.since) >= YOUNG);
        match candidates
            .min_by_key(|(_, one)| (one.branch, rng.random::<u32>()))
            .map(|(key, _)| *key)
        {
            None => Forced::Refused,
            Some(key) => {
                self.forced = Some(now);
                Forced::Instead(key)
            }
        }
    }
}

/// What becomes of somebody who must not be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forced {
    /// There is room.
    Free,
    /// It takes the place of this one.
    Instead(Key),
    /// It is refused all the same.
    Refused,
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn key(number: u8) -> Key {
        [number; 32]
    }

    fn full(own: u8, others: u8, now: Instant) -> Places {
        let mut places = Places::new(usize::from(own + others));
        for number in 0..own {
            places.up(key(number), true, now);
        }
        for number in own..own + others {
            places.up(key(number), false, now);
        }
        places
    }

    /// Lets one invented peer after another in, every `pause`, and returns how many of the first
    /// five are left.
    fn storm(mut places: Places, names: u8, pause: Duration, mut now: Instant) -> usize {
        let mut rng = StdRng::seed_from_u64(1);
        for name in 0..names {
            now += pause;
            let way = places.force(now, &mut rng);
            if let Forced::Instead(one) = way {
                places.down(&one);
            }
            if way != Forced::Refused {
                places.up(key(100 + name), false, now);
            }
        }
        (0..5).filter(|name| places.contains(&key(*name))).count()
    }

    #[test]
    fn many_names_do_not_drive_out_all_neighbours_at_once() {
        let start = Instant::now();
        let old = start + Duration::from_secs(100);
        let quick = Duration::from_millis(10);
        // A quarter of a second: one gives way, whoever has chosen whom.
        assert_eq!(storm(full(0, 5, start), 22, quick, old), 4);
        assert_eq!(storm(full(5, 0, start), 22, quick, old), 4);
    }

    #[test]
    fn those_that_this_node_has_chosen_stay_however_long_it_lasts() {
        let start = Instant::now();
        let old = start + Duration::from_secs(100);
        let left = storm(full(5, 0, start), 150, Duration::from_secs(10), old);
        assert_eq!(left, KEPT);
        // Nor can a node be cut off that others have chosen.
        let left = storm(full(1, 4, start), 150, Duration::from_secs(10), old);
        assert_eq!(left, KEPT);
    }

    #[test]
    fn a_branch_of_a_tree_gives_way_last() {
        let start = Instant::now();
        let old = start + Duration::from_secs(100);
        for seed in 0..20 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut places = full(0, 5, start);
            for leaf in [0, 3] {
                places.get_mut(&key(leaf)).unwrap().branch = false;
            }
            // The first is one of those that never give way.
            assert_eq!(places.force(old, &mut rng), Forced::Instead(key(3)));
            places.get_mut(&key(3)).unwrap().branch = true;
            let later = old + FORCED_EVERY;
            assert!(matches!(places.force(later, &mut rng), Forced::Instead(_)));
        }
    }

    #[test]
    fn who_has_just_come_does_not_give_way() {
        let start = Instant::now();
        let mut rng = StdRng::seed_from_u64(1);
        let mut places = full(0, 5, start);
        let just = start + YOUNG - Duration::from_millis(1);
        assert_eq!(places.force(just, &mut rng), Forced::Refused);
        assert!(matches!(
            places.force(start + YOUNG, &mut rng),
            Forced::Instead(_)
        ));
        places.down(&key(1));
        assert_eq!(places.force(start, &mut rng), Forced::Free);
    }
}
