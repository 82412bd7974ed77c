//! Memory of the size of parcels and packs, which is used again: new memory is cleared by the kernel page by page when it is first written,
//! which costs a push as much as sending does.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Most that wait for their next use. More keeps more memory for whoever comes next; fewer than are in use at once are cleared again and again.
const MOST: usize = 8;

/// Shorter ones are not worth it.
const SHORTEST: usize = 1 << 20;

/// Longer ones are no parcel's or pack's, which grew to twice their length at most: a save that somebody uploads would keep its memory.
const LONGEST: usize = 40 << 20;

static WAITING: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn waiting() -> MutexGuard<'static, Vec<Vec<u8>>> {
    // No code between lock and unlock can panic halfway through a change.
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One that has these bytes alone, best one that was used before.
#[must_use]
pub fn take(head: &[u8]) -> Vec<u8> {
    let mut bytes = waiting().pop().unwrap_or_default();
    bytes.extend_from_slice(head);
    bytes
}

/// These bytes; when nobody has them any more their memory is used again.
#[must_use]
pub fn lend(bytes: Vec<u8>) -> Bytes {
    Bytes::from_owner(Lent(bytes))
}

/// Gives all memory back that waits: when no more pushes are expected.
pub fn release() {
    let freed = std::mem::take(&mut *waiting());
    drop(freed);
}

struct Lent(Vec<u8>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        let mut waiting = waiting();
        if (SHORTEST..=LONGEST).contains(&bytes.capacity()) && waiting.len() < MOST {
            bytes.clear();
            waiting.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_when_the_last_reader_is_gone() {
        // Others of this process may take and lend meanwhile: its own is known by its length.
        const LENGTH: usize = 3 << 20;
        let bytes = lend(vec![7; LENGTH]);
        let part = bytes.slice(5..9);
        drop(bytes);
        assert_eq!(&part[..], [7; 4]);
        assert!(waiting().iter().all(|one| one.capacity() != LENGTH));
        drop(part);
        assert!(waiting().iter().any(|one| one.capacity() == LENGTH && one.is_empty()));
        drop(lend(vec![7; LONGEST + 1]));
        assert!(waiting().iter().all(|one| one.capacity() <= LONGEST));
        release();
        assert!(waiting().iter().all(|one| one.capacity() != LENGTH));
    }
}
