//! Topologies: which nodes are connected, as pairs of numbers. The first of each pair dials the
//! second.

/// Connects each node to the next one.
#[must_use]
pub fn line(nodes: usize) -> Vec<(usize, usize)> {
    (1..nodes).map(|node| (node - 1, node)).collect()
}

/// Connects each node to the next one, and the last to the first.
#[must_use]
pub fn ring(nodes: usize) -> Vec<(usize, usize)> {
    let mut edges = line(nodes);
    // Two nodes are connected already.
    if nodes > 2 {
        edges.push((nodes - 1, 0));
    }
    edges
}

/// Connects each node to node 0.
#[must_use]
pub fn star(nodes: usize) -> Vec<(usize, usize)> {
    (1..nodes).map(|node| (node, 0)).collect()
}

/// Connects each node to every other.
#[must_use]
pub fn full(nodes: usize) -> Vec<(usize, usize)> {
    (0..nodes)
        .flat_map(|a| (0..a).map(move |b| (a, b)))
        .collect()
}

/// Connects all nodes in a tree, and then each to one other at random: on average each node opens
/// two connections, and has four. The same seed yields the same mesh.
#[must_use]
pub fn random(nodes: usize, seed: u64) -> Vec<(usize, usize)> {
    let mut numbers = Numbers(seed);
    let mut edges: Vec<_> = (1..nodes).map(|node| (node, numbers.below(node))).collect();
    for node in 0..nodes {
        let other = numbers.below(nodes);
        let known = edges.contains(&(node, other)) || edges.contains(&(other, node));
        if other != node && !known {
            edges.push((node, other));
        }
    }
    edges
}

/// SplitMix64: small, and the same on every platform and in every version.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        number ^= number >> 31;
        (number % limit.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn degrees(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
        let degree = |node| {
            let of_node = |&&(a, b): &&(usize, usize)| a == node || b == node;
            edges.iter().filter(of_node).count()
        };
        (0..nodes).map(degree).collect()
    }

    #[test]
    fn small_meshes_look_as_they_should() {
        assert_eq!(line(3), [(0, 1), (1, 2)]);
        assert_eq!(degrees(4, &ring(4)), [2, 2, 2, 2]);
        assert_eq!(ring(2), [(0, 1)]);
        assert_eq!(degrees(4, &star(4)), [3, 1, 1, 1]);
        assert_eq!(degrees(4, &full(4)), [3, 3, 3, 3]);
        for edges in [line, ring, star, full] {
            assert!(edges(0).is_empty() && edges(1).is_empty());
        }
    }

    proptest! {
        #[test]
        fn random_meshes_are_whole_and_repeatable(nodes in 1usize..60, seed: u64) {
            let edges = random(nodes, seed);
            prop_assert_eq!(&edges, &random(nodes, seed));
            let mut reached = BTreeSet::from([0]);
            for _ in 0..nodes {
                for &(a, b) in &edges {
                    if reached.contains(&a) || reached.contains(&b) {
                        reached.extend([a, b]);
                    }
                }
            }
            prop_assert_eq!(reached.len(), nodes);
            let once: BTreeSet<_> = edges.iter().map(|&(a, b)| (a.min(b), a.max(b))).collect();
            prop_assert_eq!(once.len(), edges.len());
            prop_assert!(edges.iter().all(|(a, b)| a != b));
        }
    }
}
