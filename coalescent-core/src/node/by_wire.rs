//! Grouping peers by wire, so that frames are encoded once for all peers of one wire.

use crate::wire::Wire;

/// One value for each wire that a node's peers speak.
#[derive(Debug)]
pub(crate) struct ByWire<'a, T> {
    /// The value of the first wire. Nearly always the only one, so that nothing is allocated.
    first: Option<(&'a Wire, T)>,
    others: Vec<(&'a Wire, T)>,
}

impl<'a, T> ByWire<'a, T> {
    pub(crate) const fn new() -> Self {
        Self {
            first: None,
            others: Vec::new(),
        }
    }

    /// Returns the value for `wire`, made by `make` if there is none yet.
    #[inline]
    pub(crate) fn get_or_make(&mut self, wire: &'a Wire, make: impl FnOnce() -> T) -> &mut T {
        if self.first.as_ref().is_none_or(|(first, _)| *first == wire) {
            return &mut self.first.get_or_insert_with(|| (wire, make())).1;
        }
        let found = self.others.iter().position(|(other, _)| *other == wire);
        let at = found.unwrap_or_else(|| {
            self.others.push((wire, make()));
            self.others.len() - 1
        });
        &mut self.others[at].1
    }

    /// Returns the value for `wire`, if there is one.
    #[inline]
    pub(crate) fn get(&self, wire: &Wire) -> Option<&T> {
        let mut all = self.first.iter().chain(&self.others);
        all.find(|(other, _)| *other == wire)
            .map(|(_, value)| value)
    }

    /// Returns the value, if there is exactly one wire.
    #[inline]
    pub(crate) fn only(&mut self) -> Option<&mut T> {
        match &mut self.first {
            Some((_, value)) if self.others.is_empty() => Some(value),
            _ => None,
        }
    }

    /// Returns the wires and their values.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&'a Wire, &mut T)> {
        let all = self.first.iter_mut().chain(&mut self.others);
        all.map(|(wire, value)| (*wire, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_for_each_wire() {
        let wires = [Wire::lines(), Wire::native(), Wire::raw(), Wire::native()];
        let mut made = 0;
        let mut all = ByWire::new();
        let mut get = |wire| {
            *all.get_or_make(wire, || {
                made += 1;
                made
            })
        };
        let numbers = [&wires[0], &wires[1], &wires[2], &wires[3], &wires[0]].map(&mut get);
        assert_eq!(numbers, [1, 2, 3, 2, 1]);
        assert_eq!(all.get(&Wire::raw()), Some(&3));
        assert_eq!(all.only(), None);
        let all: Vec<_> = all.iter_mut().map(|(_, number)| *number).collect();
        assert_eq!(all, [1, 2, 3]);
    }

    #[test]
    fn one_wire_is_the_only_one() {
        let wire = Wire::native();
        let mut all = ByWire::new();
        assert_eq!(all.only(), None);
        assert_eq!(all.get(&wire), None);
        all.get_or_make(&wire, || 7);
        assert_eq!(all.only(), Some(&mut 7));
        assert_eq!(all.get(&Wire::raw()), None);
    }
}
