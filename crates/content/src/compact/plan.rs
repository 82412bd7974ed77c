//! Which packs are dissolved, and where each needed chunk is at home. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::stored;
use crate::chunk::ChunkId;
use crate::id::PackId;
use crate::pack::Place;

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Packs that are no longer needed when the chunks named here are in other ones, in the packs' order.
    pub(super) dissolved: Vec<(PackId, Vec<Place>)>,
    /// The pack in which a needed chunk is looked for from now on; for chunks of dissolved packs that is wrong until they were copied.
    pub(super) homes: HashMap<ChunkId, PackId>,
}

impl Plan {
    /// Packs that are full of what is needed come first, each kind in `order`, so that copies of old packs find their chunks at home in those.
    pub(super) fn make(
        order: &[PackId],
        indexes: &BTreeMap<PackId, Vec<Place>>,
        needed: &HashSet<ChunkId>,
        share_percent: u8,
    ) -> Plan {
        let packs = || order.iter().filter_map(|pack| indexes.get(pack).map(|places| (*pack, places.as_slice())));
        let is_enough = |kept: &[Place], all: &[Place]| {
            u128::from(stored(kept)) * 100 >= u128::from(stored(all)) * u128::from(share_percent.min(100))
        };
        let of_needed = |places: &[Place]| -> Vec<Place> {
            places.iter().filter(|place| needed.contains(&place.id)).copied().collect()
        };
        let is_full = |places: &[Place]| is_enough(&of_needed(places), places);
        let (full, poor): (Vec<_>, Vec<_>) = packs().partition(|(_, places)| is_full(places));
        let mut plan = Plan::default();
        for (pack, places) in full.into_iter().chain(poor) {
            let mut at_home = of_needed(places);
            at_home.retain(|place| match plan.homes.entry(place.id) {
                std::collections::hash_map::Entry::Occupied(_) => false,
                std::collections::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(pack);
                    true
                }
            });
            if at_home.is_empty() || !is_enough(&at_home, places) {
                plan.dissolved.push((pack, at_home));
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::{Chunk, tests::noise};
    use crate::pack::Packer;

    /// A pack of chunks that are named by numbers, all of the same length.
    fn pack(numbers: &[u64]) -> (PackId, Vec<Place>) {
        let mut packer = Packer::new().unwrap();
        numbers.iter().for_each(|number| packer.add(&Chunk::new(noise(100, *number))));
        let pack = packer.finish();
        (pack.id, pack.places)
    }

    fn ids(numbers: &[u64]) -> HashSet<ChunkId> {
        numbers.iter().map(|number| ChunkId::of(&noise(100, *number))).collect()
    }

    /// Which of the packs are dissolved, and how many chunks of each are copied.
    fn check(packs: &[&[u64]], needed: &[u64], expected: &[(usize, usize)]) {
        let packs: Vec<_> = packs.iter().map(|numbers| pack(numbers)).collect();
        let order: Vec<PackId> = packs.iter().map(|(id, _)| *id).collect();
        let plan = Plan::make(&order, &packs.iter().cloned().collect(), &ids(needed), 60);
        let place = |id| order.iter().position(|other| *other == id).unwrap();
        let mut dissolved: Vec<_> = plan.dissolved.iter().map(|(id, places)| (place(*id), places.len())).collect();
        dissolved.sort_unstable();
        assert_eq!(dissolved, expected, "{packs:?}");
    }

    #[test]
    fn packs_of_which_little_is_needed_go() {
        check(&[&[1, 2, 3, 4, 5]], &[1, 2, 3], &[]);
        check(&[&[1, 2, 3, 4, 5]], &[1, 2], &[(0, 2)]);
        check(&[&[1, 2], &[3, 4]], &[3, 4], &[(0, 0)]);
        check(&[], &[], &[]);
    }

    #[test]
    fn of_two_copies_one_stays_and_it_is_the_one_in_the_better_pack() {
        check(&[&[1, 2, 3], &[3, 2, 1]], &[1, 2, 3], &[(1, 0)]);
        // The first would be dissolved for its other chunks, so the second keeps what both have.
        check(&[&[1, 7, 8, 9], &[1, 2, 3]], &[1, 2, 3], &[(0, 0)]);
        check(&[&[1, 2, 3], &[3, 4, 5], &[5, 6, 1]], &[1, 2, 3, 4, 5, 6], &[(2, 1)]);
        check(&[&[1, 1, 1, 2]], &[1, 2], &[(0, 2)]);
    }

    proptest! {
        #[test]
        fn every_needed_chunk_has_one_home_and_what_stays_is_full(
            packs in prop::collection::btree_set(prop::collection::vec(0_u64..20, 1..8), 0..8),
            needed in prop::collection::vec(0_u64..20, 0..20),
        ) {
            let packs: BTreeMap<PackId, Vec<Place>> = packs.iter().map(|numbers| pack(numbers)).collect();
            let order: Vec<PackId> = packs.keys().copied().collect();
            let there: HashSet<ChunkId> = packs.values().flatten().map(|place| place.id).collect();
            let needed: HashSet<ChunkId> = ids(&needed).intersection(&there).copied().collect();
            let plan = Plan::make(&order, &packs, &needed, 60);
            prop_assert_eq!(&plan.homes.keys().copied().collect::<HashSet<_>>(), &needed);
            for (id, places) in &packs {
                let at_home: HashSet<ChunkId> =
                    places.iter().map(|place| place.id).filter(|chunk| plan.homes.get(chunk) == Some(id)).collect();
                match plan.dissolved.iter().find(|(dissolved, _)| dissolved == id) {
                    Some((_, copied)) => {
                        prop_assert_eq!(copied.iter().map(|place| place.id).collect::<HashSet<_>>(), at_home.clone());
                        prop_assert_eq!(copied.len(), at_home.len());
                    }
                    None => prop_assert!(at_home.len() * 100 >= places.len() * 60),
                }
            }
        }
    }
}
