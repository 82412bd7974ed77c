//! Any bytes as a manifest: taken, or refused with a place and a remedy; what is taken survives the node contract.
#![no_main]

use api::manifest::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Manifest::parse(text) {
        Ok(manifest) => {
            let json = serde_json::to_vec(&manifest).expect("a manifest is JSON");
            let again: Manifest = serde_json::from_slice(&json).expect("its JSON is a manifest");
            assert_eq!(again, manifest);
        }
        Err(errors) => {
            assert!(!errors.0.is_empty());
            let lines = text.matches('\n').count() + 1;
            for error in &errors.0 {
                assert!((1..=lines).contains(&error.line) && error.column >= 1 && !error.remedy.is_empty(), "{error}");
            }
        }
    }
});
