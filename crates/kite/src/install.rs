//! Where the other parts of the installation are, as seen from this program.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use api::id::NodeId;
use uuid::Uuid;

/// The program of this name beside `kite`.
pub(crate) fn program(name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    exe.parent().unwrap_or(Path::new("/")).join(name)
}

/// The first of the usual places that is there: `share/kite/NAME` of an installation, or the checkout that `kite` was
/// built in.
fn share(installed: &str, checkout: &str) -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let dir = exe.parent()?;
    let places = [dir.join("../share/kite").join(installed), dir.join("../..").join(checkout)];
    places.into_iter().find_map(|place| place.canonicalize().ok().filter(|place| place.is_dir()))
}

/// The packages that come with Kite.
pub(crate) fn games_dir() -> Option<PathBuf> {
    share("games", "games")
}

/// The built web pages.
pub(crate) fn web_dir() -> Option<PathBuf> {
    share("web", "web/app/dist")
}

/// The id of this machine's node: made at the first start and kept, because sessions in the database name it. Makes the data directory with mode
/// 0700 when it is missing.
pub(crate) fn node_id(data_dir: &Path) -> anyhow::Result<NodeId> {
    let path = data_dir.join("node-id");
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_no_id| {
            anyhow::anyhow!("{} holds no node id: remove it, and the machine gets another one", path.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = NodeId::from_uuid(Uuid::now_v7());
            DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
            // Whole or not at all: a name that is renamed over.
            let new = path.with_extension("new");
            std::fs::write(&new, format!("{id}\n"))?;
            std::fs::rename(&new, &path)?;
            Ok(id)
        }
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// Where `kite up` keeps its data unless told otherwise: `/var/lib/kite` for root, the XDG data directory for others.
pub(crate) fn data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/kite");
    }
    std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")))
        .unwrap_or_else(std::env::temp_dir)
        .join("kite")
}
