//! Copies are read again, one after another and slowly: a disk that forgets is found before a player finds it.
//!
//! When a copy was last found good is the time of its `tree` file, which survives restarts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::{Rate, ReplicaState, Volume};
use crate::id::RootId;

/// How often it is looked for a copy that is due. Rarer reads a copy later than it was asked for; a look costs one `stat` a release.
const LOOK_PERIOD: Duration = Duration::from_mins(1);

/// How long a copy that could not be read to its end is left alone, so that others have their turn.
const RETRY: Duration = Duration::from_hours(1);

/// Longest sleep of a thread that reads: whoever ends the program waits for it.
const NAP: Duration = Duration::from_millis(500);

/// How often copies are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrub {
    /// A copy that was found good is left alone for so long. Shorter finds damage sooner and reads the disk more.
    pub period: Duration,
    /// Most bytes a second. More is over sooner and takes from what games read.
    pub rate: Rate,
}

/// What a copy has to be, and when it was last found so.
pub(super) const TREE_FILE: &str = "tree";

fn checked(dir: &Path) -> Option<SystemTime> {
    fs::metadata(dir.join(TREE_FILE)).and_then(|file| file.modified()).ok()
}

/// Notes that a copy was found good now.
pub(super) fn note_checked(dir: &Path) -> std::io::Result<()> {
    note(dir, SystemTime::now())
}

/// Notes that nothing is known of a copy.
pub(super) fn note_unchecked(dir: &Path) -> std::io::Result<()> {
    note(dir, SystemTime::UNIX_EPOCH)
}

fn note(dir: &Path, time: SystemTime) -> std::io::Result<()> {
    fs::File::options().write(true).open(dir.join(TREE_FILE))?.set_modified(time)
}

impl Volume {
    /// Verifies copies that are due, for as long as it is polled; nothing when the settings say so.
    pub async fn scrub(&self) {
        let Some(scrub) = self.shared.settings.scrub else { return std::future::pending().await };
        let mut failed: BTreeMap<RootId, Instant> = BTreeMap::new();
        loop {
            failed.retain(|_, since| since.elapsed() < RETRY);
            if let Some(root) = self.due(scrub.period, &|root| failed.contains_key(&root)) {
                match self.verify_at(root, Some(scrub.rate)).await {
                    Ok(_) => continue,
                    Err(error) => {
                        failed.insert(root, Instant::now());
                        tracing::warn!(%root, error = &error as &dyn std::error::Error, "a copy was not verified");
                    }
                }
            }
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }

    /// The present copy that was not verified for longest, when that is longer than the period. A time to come is none.
    pub(super) fn due(&self, period: Duration, is_left_alone: &dyn Fn(RootId) -> bool) -> Option<RootId> {
        let now = SystemTime::now();
        let replicas = self.lock();
        let present =
            replicas.iter().filter(|(_, one)| matches!(one.state, ReplicaState::Present { .. }) && !one.is_busy);
        let due = present.filter(|(root, _)| !is_left_alone(**root)).filter_map(|(root, _)| {
            let checked =
                checked(&self.present_dir(*root)).filter(|then| *then <= now).unwrap_or(SystemTime::UNIX_EPOCH);
            now.duration_since(checked).is_ok_and(|age| age >= period).then_some((checked, *root))
        });
        due.min().map(|(_, root)| root)
    }
}

/// Makes a thread read no faster than a rate, and stop when whoever waits for it is gone.
#[derive(Debug)]
pub(super) struct Leash {
    begin: Instant,
    rate: Option<Rate>,
    is_over: Arc<AtomicBool>,
}

/// Ends the reading when it is dropped.
#[derive(Debug)]
pub(super) struct Holder(Arc<AtomicBool>);

impl Leash {
    pub(super) fn new(rate: Option<Rate>) -> (Leash, Holder) {
        let is_over = Arc::new(AtomicBool::new(false));
        (Leash { begin: Instant::now(), rate, is_over: Arc::clone(&is_over) }, Holder(is_over))
    }

    /// Waits until so many bytes may have been read; false when nobody waits for the end.
    pub(super) fn wait(&self, bytes_done: u64) -> bool {
        if let Some(Rate(rate)) = self.rate {
            let due = Duration::from_secs_f64(bytes_done as f64 / rate.get() as f64);
            while !self.is_over.load(Ordering::Relaxed) {
                let left = due.saturating_sub(self.begin.elapsed());
                if left.is_zero() {
                    break;
                }
                std::thread::sleep(left.min(NAP));
            }
        }
        !self.is_over.load(Ordering::Relaxed)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
