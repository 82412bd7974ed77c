//! Nothing needed is ever removed, whatever happens between any two steps of a collection, and in the end nothing else is left.

pub(crate) mod model;

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;

use futures_util::TryStreamExt as _;
use proptest::prelude::*;

use self::model::{Model, Step, World, put_package};
use super::*;
use crate::store::{ObjectKind, StoreSettings};

fn hours(hours: u64) -> Duration {
    Duration::from_hours(hours)
}

/// A ledger that always says the same.
#[derive(Debug, Default)]
struct Fixed {
    live: Live,
    condemned: Mutex<Vec<usize>>,
}

impl Ledger for Fixed {
    type Error = std::io::Error;

    async fn live(&self) -> Result<Live, Self::Error> {
        Ok(self.live.clone())
    }

    async fn condemn(&self, names: &[ObjectName]) -> Result<(), Self::Error> {
        self.condemned.lock().unwrap().push(names.len());
        Ok(())
    }

    async fn replace(&self, _old: RootId, _new: RootId) -> Result<bool, Self::Error> {
        unreachable!("a collection replaces nothing")
    }
}

fn live(roots: &[RootId]) -> Fixed {
    Fixed { live: Live { roots: roots.to_vec(), ..Live::default() }, ..Fixed::default() }
}

struct Site {
    dir: tempfile::TempDir,
    store: Store,
}

impl Site {
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreSettings::Local { dir: dir.path().to_owned() }).unwrap();
        Site { dir, store }
    }

    fn file(&self, name: &ObjectName) -> std::path::PathBuf {
        self.dir.path().join(name.kind.directory()).join(&name.id[..2]).join(&name.id)
    }

    async fn names(&self) -> BTreeSet<ObjectName> {
        let mut names = BTreeSet::new();
        for kind in ObjectKind::ALL {
            names.extend(self.store.list(kind).map_ok(|listed| listed.name).try_collect::<Vec<_>>().await.unwrap());
        }
        names
    }

    async fn collect(&self, ledger: &Fixed, age: Duration) -> Result<Collected, CollectError> {
        let now = Some(SystemTime::now() + age);
        collect(&self.store, ledger, CollectOptions { now, ..CollectOptions::default() }, &|_| ()).await
    }
}

#[tokio::test]
async fn what_nothing_needs_goes_after_the_grace_and_not_before() {
    let site = Site::new();
    let (one, two) = (put_package(&site.store, &[1, 2, 3]).await, put_package(&site.store, &[3, 4]).await);
    let all = site.names().await;
    let ledger = live(&[one]);
    let young = site.collect(&ledger, hours(23)).await.unwrap();
    assert_eq!((young.removed.objects, young.young.objects), (0, all.len() as u64));
    assert_eq!(site.names().await, all);
    let collected = site.collect(&ledger, hours(25)).await.unwrap();
    let left = site.names().await;
    assert_eq!(collected.removed.objects, (all.len() - left.len()) as u64);
    assert_eq!(collected.kept.objects, left.len() as u64);
    assert!(collected.removed.bytes > 0 && collected.kept.bytes > 0);
    assert!(!left.contains(&two.into()));
    assert_eq!(crate::verify(&site.store, &[one], &|_| ()).await.unwrap(), []);
    // Nothing stays condemned, and nothing is before the candidates are known.
    assert_eq!(*ledger.condemned.lock().unwrap(), [0, 0, 0, 0, collected.removed.objects as usize, 0]);
}

#[tokio::test]
async fn a_dry_run_says_the_same_and_touches_nothing() {
    let site = Site::new();
    let (one, _) = (put_package(&site.store, &[1]).await, put_package(&site.store, &[2]).await);
    let (before, ledger) = (site.names().await, live(&[one]));
    let now = Some(SystemTime::now() + hours(25));
    let options = CollectOptions { now, is_dry_run: true, ..CollectOptions::default() };
    let said = collect(&site.store, &ledger, options, &|_| ()).await.unwrap();
    assert_eq!(site.names().await, before);
    assert!(ledger.condemned.lock().unwrap().is_empty());
    assert_eq!(site.collect(&ledger, hours(25)).await.unwrap(), said);
    assert_eq!(said.removed.objects, 3);
}

#[tokio::test]
async fn a_needed_root_that_cannot_be_read_ends_it_before_anything_goes() {
    let site = Site::new();
    let (one, two) = (put_package(&site.store, &[1]).await, put_package(&site.store, &[2]).await);
    let _garbage = put_package(&site.store, &[3]).await;
    let before = site.names().await;
    let file = site.file(&two.into());
    let good = fs::read(&file).unwrap();
    fs::write(&file, &good[1..]).unwrap();
    let damaged = site.collect(&live(&[one, two]), hours(25)).await.unwrap_err();
    assert!(matches!(damaged, CollectError::Root { root, source: StoreError::Damaged(_) } if root == two), "{damaged}");
    assert_eq!(site.names().await, before);
    fs::remove_file(&file).unwrap();
    let missing = site.collect(&live(&[one, two]), hours(25)).await.unwrap_err();
    assert!(matches!(missing, CollectError::Root { root, source: StoreError::Missing(_) } if root == two), "{missing}");
    assert!(missing.to_string().contains(&two.to_string()));
    fs::write(&file, good).unwrap();
    assert_eq!(site.names().await, before);
}

#[tokio::test]
async fn a_ledger_that_names_nothing_is_not_believed_unless_it_is_said_to_be_right() {
    let site = Site::new();
    // An empty store has nothing to lose.
    assert_eq!(site.collect(&live(&[]), hours(25)).await.unwrap(), Collected::default());
    let _root = put_package(&site.store, &[1]).await;
    let before = site.names().await;
    assert!(matches!(site.collect(&live(&[]), hours(25)).await, Err(CollectError::NothingLive)));
    assert_eq!(site.names().await, before);
    let now = Some(SystemTime::now() + hours(25));
    let options = CollectOptions { now, may_be_empty: true, ..CollectOptions::default() };
    let collected = collect(&site.store, &live(&[]), options, &|_| ()).await.unwrap();
    assert_eq!((collected.removed.objects, site.names().await.len()), (3, 0));
}

#[tokio::test]
async fn what_killed_writers_left_goes_after_the_grace() {
    let site = Site::new();
    let root = put_package(&site.store, &[1]).await;
    let at = site.file(&root.into());
    let left = |suffix: &str| std::path::PathBuf::from(format!("{}{suffix}", at.display()));
    for suffix in ["#1", "#23", "#x", "#"] {
        fs::write(left(suffix), b"half").unwrap();
    }
    let clock = site.dir.path().join("clock#4");
    fs::write(&clock, b"kite").unwrap();
    let foreign = at.with_file_name("readme#1");
    fs::write(&foreign, b"not ours").unwrap();
    let ledger = live(&[root]);
    assert_eq!(site.collect(&ledger, hours(23)).await.unwrap().staging, Amount::default());
    assert_eq!(site.collect(&ledger, hours(25)).await.unwrap().staging, Amount { objects: 3, bytes: 12 });
    assert!(!clock.exists());
    assert_eq!(["#1", "#23", "#x", "#"].map(|suffix| left(suffix).exists()), [false, false, true, true]);
    assert!(at.exists() && foreign.exists());
}

#[tokio::test]
async fn the_store_tells_its_time() {
    let site = Site::new();
    let now = site.store.now().await.unwrap();
    assert!(SystemTime::now().duration_since(now).is_ok_and(|age| age < hours(1)));
    assert!(site.names().await.is_empty(), "its clock is no object");
}

/// All of this runs in tasks of the control plane.
#[test]
fn a_task_may_run_them() {
    fn is_send(_: impl Send) {}
    let (site, ledger) = (Site::new(), Fixed::default());
    is_send(collect(&site.store, &ledger, CollectOptions::default(), &|_| ()));
    is_send(crate::compact(&site.store, &ledger, &[], crate::CompactOptions::default(), &|_| ()));
    is_send(crate::verify(&site.store, &[], &|_| ()));
    is_send(crate::stats(&site.store, &[]));
}

/// What once could have been lost: an upload writes a pack that lies there unneeded, between the collection's look and its hand.
#[test]
fn an_upload_that_writes_a_condemned_pack_waits_and_one_that_came_before_is_seen() {
    let upload = |chunks: &[u64], steps| {
        [vec![Step::Begin { chunks: chunks.to_vec(), base: None }], vec![Step::Upload(0); steps]].concat()
    };
    // A name in the row and an object for pack, tree and root, then the end.
    let (all, most) = (7, 6);
    for (is_release, before) in [(false, 2), (false, most), (true, all)] {
        let goes = if is_release { Step::Delete(0) } else { Step::Abandon(0) };
        let unneeded = [upload(&[9], all), upload(&[1, 2], before), vec![goes, Step::Age(30)]].concat();
        for steps in 0..14 {
            for steps_between in [0, 1, 2, most, all] {
                let again =
                    [vec![Step::Collect; steps], upload(&[1, 2], steps_between), vec![Step::Collect; 4]].concat();
                check([unneeded.clone(), again, vec![Step::Upload(0); all], vec![Step::Collect; 16]].concat());
            }
        }
    }
}

fn check(steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut model = Model::new(World::new());
        for step in steps {
            model.step(step).await;
        }
        model.end().await;
    });
}

/// Some steps in a row: single ones rarely come to the end of anything.
fn some(step: Step) -> impl Strategy<Value = Vec<Step>> {
    (1_usize..9).prop_map(move |times| vec![step.clone(); times])
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few packages of few chunks, so that packs come again, and releases share them.
    let chunks = |(start, length): (u64, u64)| (start * 3..start * 3 + length).collect::<Vec<_>>();
    let begin = (0_u64..3, 1_u64..8).prop_map(chunks);
    let step = prop_oneof![
        3 => (begin, prop::option::of(0_usize..4), 0_usize..9).prop_map(|(chunks, base, steps)| {
            // The newest upload is the last.
            [vec![Step::Begin { chunks, base }], vec![Step::Upload(usize::MAX); steps]].concat()
        }),
        4 => (0_usize..3).prop_flat_map(|index| some(Step::Upload(index))),
        1 => (0_usize..3).prop_map(|index| vec![Step::Abandon(index)]),
        2 => (0_usize..4).prop_map(|index| vec![Step::Delete(index)]),
        1 => Just(vec![Step::Save]),
        1 => (0_usize..3).prop_flat_map(|index| some(Step::Capture(index))),
        2 => prop_oneof![Just(1_u64), Just(11), Just(26)].prop_map(|hours| vec![Step::Age(hours)]),
        4 => some(Step::Collect),
        2 => some(Step::Compact),
        1 => Just(vec![Step::Kill]),
    ];
    // One release comes first and stays, as a rule: a collection does nothing where nothing is live.
    let first = [vec![Step::Begin { chunks: vec![0, 9], base: None }], vec![Step::Upload(0); 7]].concat();
    prop::collection::vec(step, 1..60).prop_map(move |steps| [first.clone(), steps.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn nothing_needed_is_removed_whatever_comes_between(steps in steps()) {
        check(steps);
    }
}
