//! The authority's file.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use link::{Authority, AuthorityError, NodeRequest, SignError};

#[test]
fn it_is_made_once_and_is_its_owner_s_alone() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("authority");
    let first = Authority::open(&dir).unwrap();
    let again = Authority::open(&dir).unwrap();
    assert_eq!(first.fingerprint(), again.fingerprint());
    assert_eq!(first.certificate_pem(), again.certificate_pem());
    assert!(!first.certificate_pem().contains("PRIVATE"));
    let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().mode() & 0o777;
    assert_eq!((mode(""), mode("authority.pem"), mode("lock")), (0o700, 0o600, 0o600));
    assert!(!format!("{first:?}").contains("PRIVATE"));
}

#[test]
fn many_that_start_at_once_make_one() {
    let home = tempfile::tempdir().unwrap();
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let dir = home.path().to_owned();
            let thread = std::thread::Builder::new().name(format!("opener {number}"));
            thread.spawn(move || Authority::open(&dir).unwrap().fingerprint()).unwrap()
        })
        .collect();
    let fingerprints: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(fingerprints.iter().all(|fingerprint| *fingerprint == fingerprints[0]));
}

#[test]
fn a_kill_while_it_is_made_leaves_it_usable() {
    let home = tempfile::tempdir().unwrap();
    let whole = {
        let other = tempfile::tempdir().unwrap();
        Authority::open(other.path()).unwrap();
        fs::read_to_string(other.path().join("authority.pem")).unwrap()
    };
    // Before the directory, before the file, amid the file, after it and before its name.
    let states: [&dyn Fn(); 4] = [
        &|| fs::remove_dir(home.path()).unwrap(),
        &|| fs::write(home.path().join("lock"), "").unwrap(),
        &|| fs::write(home.path().join("authority.pem.new"), &whole[..whole.len() / 2]).unwrap(),
        &|| fs::write(home.path().join("authority.pem.new"), &whole).unwrap(),
    ];
    for (index, state) in states.iter().enumerate() {
        for file in fs::read_dir(home.path()).into_iter().flatten().flatten() {
            fs::remove_file(file.path()).unwrap();
        }
        state();
        let made = Authority::open(home.path()).unwrap_or_else(|error| panic!("state {index}: {error}"));
        assert_eq!(made.fingerprint(), Authority::open(home.path()).unwrap().fingerprint());
    }
}

#[test]
fn what_is_no_authority_is_named_and_kept() {
    let home = tempfile::tempdir().unwrap();
    let (one, two) = (home.path().join("one"), home.path().join("two"));
    Authority::open(&one).unwrap();
    Authority::open(&two).unwrap();
    let read = |dir: &std::path::Path| fs::read_to_string(dir.join("authority.pem")).unwrap();
    let (first, second) = (read(&one), read(&two));
    let certificate_at = |text: &str| text.find("-----BEGIN CERTIFICATE").unwrap();
    let (key, certificate) = (&first[..certificate_at(&first)], &second[certificate_at(&second)..]);
    for wrong in [String::new(), "nonsense".to_owned(), key.to_owned(), format!("{key}{certificate}")] {
        fs::write(one.join("authority.pem"), &wrong).unwrap();
        assert!(matches!(Authority::open(&one), Err(AuthorityError::Broken { .. })), "{wrong}");
        assert_eq!(read(&one), wrong);
    }
    fs::set_permissions(two.join("authority.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Authority::open(&two), Err(AuthorityError::File(_))));
}

#[test]
fn requests_with_other_keys_or_without_their_own_signature_are_refused() {
    let check = |pem: &str| NodeRequest::from_pem(pem).map(drop);
    assert!(matches!(check(""), Err(SignError::Request(_))));
    let request = |algorithm| {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap()
    };
    assert!(check(&request(&rcgen::PKCS_ECDSA_P256_SHA256)).is_ok());
    assert!(matches!(check(&request(&rcgen::PKCS_ED25519)), Err(SignError::Key)));
    // One bit of its signature, or of what is signed, is another.
    let good = rcgen::CertificateParams::default()
        .serialize_request(&rcgen::KeyPair::generate().unwrap())
        .unwrap()
        .der()
        .to_vec();
    for at in [good.len() / 2, good.len() - 2] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let text = data_encoding::BASE64.encode(&bad);
        let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
        assert!(check(&pem).is_err(), "byte {at}");
    }
}
