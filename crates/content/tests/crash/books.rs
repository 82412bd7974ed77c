//! Stands for the control plane's database: files that survive a kill as its tables do.
//!
//! `committed` says what became of releases and saves, one a line, and a line is there whole or not at all. `condemned` is the last word of a
//! collection. What an upload is about to write dies with the process, as if the upload was given up: nobody goes on with it here.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use content::{Ledger, Live, ObjectKind, ObjectName, RootId};

/// How long an upload waits before it tries to name a condemned object again.
const PAUSE: Duration = Duration::from_millis(2);

/// Where processes that are killed keep everything.
#[derive(Clone, Debug)]
pub(super) struct Dirs {
    pub(super) root: PathBuf,
}

impl Dirs {
    fn committed_file(&self) -> PathBuf {
        self.root.join("committed")
    }

    /// What is committed of a kind, and was not removed since: `release ROOT`, `save ROOT`, `removed ROOT`, `replaced ROOT ROOT`.
    pub(super) fn committed(&self, kind: &str) -> Vec<RootId> {
        let text = fs::read_to_string(self.committed_file()).unwrap_or_default();
        let mut roots = Vec::new();
        for line in text.rsplit_once('\n').map_or("", |(whole, _)| whole).lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let root = |word: usize| -> RootId { words[word].parse().unwrap() };
            match words[0] {
                "removed" => roots.retain(|known| *known != root(1)),
                "replaced" => roots.iter_mut().filter(|known| **known == root(1)).for_each(|known| *known = root(2)),
                what if what == kind => roots.push(root(1)),
                _ => {}
            }
        }
        roots
    }

    /// How often a compaction replaced a root.
    pub(super) fn replaced(&self) -> usize {
        let text = fs::read_to_string(self.committed_file()).unwrap_or_default();
        text.lines().filter(|line| line.starts_with("replaced ")).count()
    }

    /// Forgets a line that a kill cut off: the transaction did not happen, and shall not happen later.
    pub(super) fn recover(&self) {
        let text = fs::read_to_string(self.committed_file()).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            fs::File::options().write(true).open(self.committed_file()).unwrap().set_len(whole as u64).unwrap();
        }
    }

    pub(super) fn condemned(&self) -> BTreeSet<String> {
        let text = fs::read_to_string(self.root.join("condemned")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

#[derive(Debug)]
struct Rows {
    /// What uploads write, or have written.
    pending: Vec<ObjectName>,
    condemned: BTreeSet<String>,
    /// Roots that a compaction replaced: nobody relies on them any more when the process is killed and a grace has passed.
    retired: Vec<RootId>,
}

/// The open database. What is done under its lock is one transaction.
#[derive(Debug)]
pub(super) struct Books {
    dirs: Dirs,
    rows: Mutex<Rows>,
    /// Is called when a collection has written down its word.
    on_condemned: fn(),
}

impl Books {
    pub(super) fn open(dirs: &Dirs, on_condemned: fn()) -> Books {
        dirs.recover();
        let rows = Rows { pending: Vec::new(), condemned: dirs.condemned(), retired: Vec::new() };
        Books { dirs: dirs.clone(), rows: Mutex::new(rows), on_condemned }
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap()
    }

    /// Notes an object that an upload is about to write, as soon as no collection is about to remove it.
    pub(super) async fn note(&self, name: ObjectName) {
        loop {
            {
                let mut rows = self.rows();
                if !rows.condemned.contains(&name.to_string()) {
                    rows.pending.push(name);
                    return;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Commits a line; with it everything ends that was pending.
    pub(super) fn commit(&self, what: &str, root: RootId) {
        let mut rows = self.rows();
        let is_condemned = rows.condemned.contains(&ObjectName::from(root).to_string());
        assert!(!(what == "save" && is_condemned), "what was captured just now is about to be removed: {root}");
        self.append(&format!("{what} {root}\n")).unwrap();
        if what == "release" {
            rows.pending.clear();
        }
    }

    fn append(&self, line: &str) -> io::Result<()> {
        let mut file = fs::File::options().create(true).append(true).open(self.dirs.committed_file())?;
        file.write_all(line.as_bytes())
    }
}

impl Ledger for Books {
    type Error = io::Error;

    async fn live(&self) -> io::Result<Live> {
        let rows = self.rows();
        let mut live = Live { roots: self.dirs.committed("release"), ..Live::default() };
        live.roots.extend(self.dirs.committed("save").iter().chain(&rows.retired));
        for name in &rows.pending {
            match name.kind {
                ObjectKind::Pack => live.pending_packs.push(name.id.parse().unwrap()),
                ObjectKind::Tree => live.pending_trees.push(name.id.parse().unwrap()),
                ObjectKind::Root => live.pending_roots.push(name.id.parse().unwrap()),
            }
        }
        Ok(live)
    }

    async fn condemn(&self, names: &[ObjectName]) -> io::Result<()> {
        {
            let mut rows = self.rows();
            rows.condemned = names.iter().map(ToString::to_string).collect();
            let text: String = rows.condemned.iter().map(|name| format!("{name}\n")).collect();
            let file = self.dirs.root.join("condemned");
            fs::write(file.with_extension("new"), text)?;
            fs::rename(file.with_extension("new"), file)?;
        }
        (self.on_condemned)();
        Ok(())
    }

    async fn replace(&self, old: RootId, new: RootId) -> io::Result<bool> {
        let mut rows = self.rows();
        let is_named = self.dirs.committed("release").contains(&old);
        if is_named {
            self.append(&format!("replaced {old} {new}\n"))?;
            rows.retired.push(old);
        }
        Ok(is_named)
    }
}
