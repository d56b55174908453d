//! Owns which directed pairs of ends each shape of a partition cuts. Does not cut. Invariant: functions of their arguments alone,
//! and no pair comes twice. The callers choose who is where by the order of the nodes they give.
//! Source: Jepsen's `nemesis` (complete-grudge, bridge, majorities-ring).

use std::collections::BTreeSet;

use super::net::End;

/// What goes from the first to the second.
pub type Pair = (End, End);

/// From each of `from` to each of `to`; the other direction stays.
pub fn one_way(from: &[u64], to: &[u64]) -> Vec<Pair> {
    pairs(from.iter().flat_map(|&a| to.iter().map(move |&b| (a, b))))
}

/// Both directions between two groups.
pub fn between(left: &[u64], right: &[u64]) -> Vec<Pair> {
    let there = left.iter().flat_map(|&a| right.iter().map(move |&b| (a, b)));
    pairs(there.flat_map(|(a, b)| [(a, b), (b, a)]))
}

/// The first nodes against the others: 1 against 2, 2 against 3.
pub fn halves(order: &[u64]) -> Vec<Pair> {
    let (left, right) = order.split_at(order.len() / 2);
    between(left, right)
}

/// The leader in the smaller part: alone of 3 nodes, with one follower of 5.
pub fn leader_minority(leader: u64, nodes: &[u64]) -> Vec<Pair> {
    let followers = nodes.iter().copied().filter(|&node| node != leader);
    let order: Vec<u64> = [leader].into_iter().chain(followers).collect();
    halves(&order)
}

/// One node against all others.
pub fn isolate(node: u64, nodes: &[u64]) -> Vec<Pair> {
    let others: Vec<u64> = nodes.iter().copied().filter(|&other| other != node).collect();
    between(&[node], &others)
}

/// The first node sees all; the others are in two groups that do not see each other.
pub fn bridge(order: &[u64]) -> Vec<Pair> {
    halves(order.get(1..).unwrap_or_default())
}

/// Every node sees a majority, and no two see the same one. Of 3 nodes that is a chain, as links are cut both ways
/// (TCP over a link that is cut one way is dead both ways); of more, a ring where each sees its nearest.
pub fn majorities_ring(order: &[u64]) -> Vec<Pair> {
    let count = order.len();
    if count <= 3 {
        // In the middle stands the second, who sees both.
        return match order {
            [first, _, last] => between(&[*first], &[*last]),
            _ => Vec::new(),
        };
    }
    // A majority with oneself in the middle, rounded up to be the same to both sides.
    let reach = (count / 2).div_ceil(2);
    let seen = |a: usize, b: usize| a.abs_diff(b).min(count - a.abs_diff(b)) <= reach;
    let all = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
    pairs(all.filter(|&(a, b)| a != b && !seen(a, b)).map(|(a, b)| (order[a], order[b])))
}

/// Both directions between a node and all clients, the tests' own included.
pub fn clients_of(node: u64) -> Vec<Pair> {
    [End::Clients, End::Harness].into_iter().flat_map(|who| [(who, End::Node(node)), (End::Node(node), who)]).collect()
}

/// Every direction between different nodes.
pub fn all_links(nodes: &[u64]) -> Vec<Pair> {
    one_way(nodes, nodes)
}

fn pairs(found: impl Iterator<Item = (u64, u64)>) -> Vec<Pair> {
    let found: BTreeSet<(u64, u64)> = found.filter(|(a, b)| a != b).collect();
    found.into_iter().map(|(a, b)| (End::Node(a), End::Node(b))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: [u64; 3] = [1, 2, 3];
    const FIVE: [u64; 5] = [1, 2, 3, 4, 5];

    fn cut(found: &[Pair]) -> Vec<(u64, u64)> {
        let number = |end| match end {
            End::Node(number) => number,
            other => panic!("{other:?} is no node"),
        };
        found.iter().map(|&(a, b)| (number(a), number(b))).collect()
    }

    /// The nodes that `node` can talk with, itself included.
    fn sees(found: &[Pair], node: u64, nodes: &[u64]) -> BTreeSet<u64> {
        let cut = cut(found);
        let is_open = |&other: &u64| !cut.contains(&(node, other)) && !cut.contains(&(other, node));
        nodes.iter().copied().filter(is_open).collect()
    }

    fn is_both_ways(found: &[Pair]) -> bool {
        found.iter().all(|&(a, b)| found.contains(&(b, a)))
    }

    #[test]
    fn halves_leave_the_greater_part_a_majority() {
        assert_eq!(cut(&halves(&THREE)), [(1, 2), (1, 3), (2, 1), (3, 1)]);
        let five = halves(&FIVE);
        assert_eq!(five.len(), 12);
        assert_eq!(sees(&five, 1, &FIVE), BTreeSet::from([1, 2]));
        assert_eq!(sees(&five, 5, &FIVE), BTreeSet::from([3, 4, 5]));
        assert!(is_both_ways(&five));
    }

    #[test]
    fn the_leader_is_in_the_smaller_part() {
        assert_eq!(sees(&leader_minority(2, &THREE), 2, &THREE), BTreeSet::from([2]));
        assert_eq!(sees(&leader_minority(2, &THREE), 3, &THREE), BTreeSet::from([1, 3]));
        assert_eq!(sees(&leader_minority(4, &FIVE), 4, &FIVE), BTreeSet::from([1, 4]));
        assert_eq!(sees(&leader_minority(4, &FIVE), 2, &FIVE), BTreeSet::from([2, 3, 5]));
    }

    #[test]
    fn one_way_leaves_the_way_back() {
        assert_eq!(cut(&one_way(&[1], &[2, 3])), [(1, 2), (1, 3)]);
        assert_eq!(cut(&one_way(&[4, 5], &[1, 4])), [(4, 1), (5, 1), (5, 4)]);
    }

    #[test]
    fn an_isolated_node_sees_itself_alone() {
        assert_eq!(sees(&isolate(3, &THREE), 3, &THREE), BTreeSet::from([3]));
        assert_eq!(sees(&isolate(3, &FIVE), 1, &FIVE), BTreeSet::from([1, 2, 4, 5]));
        assert_eq!(isolate(3, &FIVE).len(), 8);
    }

    #[test]
    fn the_bridge_sees_both_halves_and_they_do_not_see_each_other() {
        assert_eq!(cut(&bridge(&THREE)), [(2, 3), (3, 2)]);
        let five = bridge(&FIVE);
        assert_eq!(sees(&five, 1, &FIVE), BTreeSet::from(FIVE));
        assert_eq!(sees(&five, 2, &FIVE), BTreeSet::from([1, 2, 3]));
        assert_eq!(sees(&five, 5, &FIVE), BTreeSet::from([1, 4, 5]));
        assert!(is_both_ways(&five));
    }

    #[test]
    fn in_a_ring_every_node_sees_a_majority_and_no_two_the_same() {
        for count in 3..=9 {
            let nodes: Vec<u64> = (1..=count).collect();
            let ring = majorities_ring(&nodes);
            let seen: BTreeSet<_> = nodes.iter().map(|&node| sees(&ring, node, &nodes)).collect();
            assert_eq!(seen.len(), nodes.len(), "{count} nodes: {seen:?}");
            assert!(seen.iter().all(|seen| seen.len() > nodes.len() / 2), "{count} nodes: {seen:?}");
            assert!(is_both_ways(&ring));
        }
        assert_eq!(cut(&majorities_ring(&THREE)), [(1, 3), (3, 1)]);
        assert_eq!(sees(&majorities_ring(&FIVE), 1, &FIVE), BTreeSet::from([1, 2, 5]));
    }

    #[test]
    fn clients_are_cut_both_ways() {
        assert_eq!(clients_of(2).len(), 4);
        assert!(is_both_ways(&clients_of(2)));
        assert_eq!(all_links(&FIVE).len(), 20);
    }
}
