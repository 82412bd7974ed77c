//! Any bytes decode to a tree or a pack that is consistent, or to an error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tree) = content::Tree::decode(bytes) {
        assert_eq!(content::Tree::decode(&tree.encode()), Ok(tree));
    }
    if let Ok(pack) = content::Pack::read(bytes.to_vec(), None) {
        assert!(pack.places.iter().all(|place| pack.chunk(place).is_ok()));
    }
});
