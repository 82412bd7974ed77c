//! How a machine becomes a node.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use link::{DialError, Identity, JoinError, JoinToken, Refusal, join};

use crate::support::{Installation, is_empty, node_id, soon};

fn start_join(
    installation: &Installation,
    token: &JoinToken,
    number: u128,
) -> tokio::task::JoinHandle<Result<Identity, JoinError>> {
    let (address, token, dir) = (installation.address.to_string(), token.clone(), installation.dir(number));
    tokio::spawn(async move { join(&address, &token, "rack 3\nleft", &dir).await })
}

#[tokio::test]
async fn a_token_makes_one_node() {
    let mut installation = Installation::new().await;
    let token = installation.token();
    let mut stored: BTreeSet<[u8; 32]> = [*token.secret_hash().bytes()].into();

    let joining = start_join(&installation, &token, 1);
    let request = installation.next_join().await;
    assert_eq!(request.name(), "rack 3left");
    assert!(request.peer().ip().is_loopback());
    assert!(stored.remove(request.secret_hash().bytes()));
    request.accept(node_id(1)).await.unwrap();
    let identity = soon(joining).await.unwrap().unwrap();
    assert_eq!(identity.node(), node_id(1));
    assert_eq!(identity.authority(), installation.authority.fingerprint());

    // It is kept, for its owner alone, and the key of the join is gone.
    let dir = installation.dir(1);
    let loaded = Identity::load(&dir).unwrap().unwrap();
    assert_eq!((loaded.node(), loaded.validity()), (identity.node(), identity.validity()));
    let mode = |path: &str| std::fs::metadata(dir.join(path)).unwrap().mode() & 0o777;
    assert_eq!((mode(""), mode("identity.pem")), (0o700, 0o600));
    assert!(!dir.join("joining.pem").exists());
    assert!(!format!("{identity:?}").contains("PRIVATE"));

    // A second machine with the same token is the caller's to refuse.
    let joining = start_join(&installation, &token, 2);
    let request = installation.next_join().await;
    assert!(!stored.contains(request.secret_hash().bytes()));
    request.refuse(Refusal::Token).await;
    let error = soon(joining).await.unwrap().unwrap_err();
    assert!(matches!(error, JoinError::Dial(DialError::Refused(Refusal::Token))), "{error:?}");
    assert!(Identity::load(&installation.dir(2)).unwrap().is_none());
}

#[tokio::test]
async fn a_join_that_was_cut_off_is_made_again_by_the_same_key() {
    let mut installation = Installation::new().await;
    let token = installation.token();
    let joining = start_join(&installation, &token, 1);
    let request = installation.next_join().await;
    let key = request.key();
    // The answer does not arrive.
    drop(request);
    soon(joining).await.unwrap().unwrap_err();
    let joining = start_join(&installation, &token, 1);
    let request = installation.next_join().await;
    assert_eq!(request.key(), key);
    request.accept(node_id(1)).await.unwrap();
    soon(joining).await.unwrap().unwrap();
    // Another machine has another key.
    let _joining = start_join(&installation, &token, 2);
    assert_ne!(installation.next_join().await.key(), key);
}

#[tokio::test]
async fn the_secret_goes_to_the_token_s_installation_alone() {
    let (mut installation, other) = (Installation::new().await, Installation::new().await);
    let token = other.token();
    let error = soon(start_join(&installation, &token, 1)).await.unwrap().unwrap_err();
    assert!(matches!(error, JoinError::Dial(DialError::Stranger { .. })), "{error:?}");
    assert!(installation.is_quiet().await);
}

#[tokio::test]
async fn nobody_at_the_address_is_said_so() {
    let mut installation = Installation::new().await;
    let token = installation.token();
    installation.listener = None;
    tokio::task::yield_now().await;
    let error = soon(start_join(&installation, &token, 1)).await.unwrap().unwrap_err();
    assert!(matches!(error, JoinError::Dial(DialError::Unreachable { .. })), "{error:?}");
    assert!(is_empty(&installation.home.path().join("nothing")));
}
