//! Which encoding hardware this machine shows.

use std::fs;
use std::path::{Path, PathBuf};

/// Device nodes of encoding hardware, as far as this process may see them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// An NVIDIA driver is loaded.
    pub nvidia: bool,
    /// Render nodes of `/dev/dri`, sorted. Those of NVIDIA's driver, which has no VA-API encoder, are among them.
    pub render_nodes: Vec<PathBuf>,
}

impl Devices {
    /// Looks at `/dev`.
    #[must_use]
    pub fn find() -> Devices {
        Devices::find_in(Path::new("/dev"))
    }

    fn find_in(dev: &Path) -> Devices {
        let is_render_node =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"renderD"));
        let entries = fs::read_dir(dev.join("dri")).into_iter().flatten().flatten();
        let mut render_nodes: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_render_node).collect();
        render_nodes.sort();
        // `dxg` is NVIDIA (and others) under WSL, where there is no `nvidiactl`.
        let nvidia = ["nvidiactl", "dxg"].iter().any(|name| dev.join(name).exists());
        Devices { nvidia, render_nodes }
    }

    /// The render nodes, or the first one's usual name, so that a device that was asked for by name is missed by name.
    pub(crate) fn render_nodes_or_default(&self) -> Vec<PathBuf> {
        if self.render_nodes.is_empty() {
            return vec![PathBuf::from("/dev/dri/renderD128")];
        }
        self.render_nodes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_found_by_name() {
        let dev = tempfile::tempdir().unwrap();
        assert_eq!(Devices::find_in(dev.path()), Devices::default());
        fs::create_dir(dev.path().join("dri")).unwrap();
        for name in ["dri/renderD129", "dri/card0", "dri/renderD128", "nvidiactl"] {
            fs::write(dev.path().join(name), "").unwrap();
        }
        let nodes = ["dri/renderD128", "dri/renderD129"].map(|name| dev.path().join(name)).to_vec();
        assert_eq!(Devices::find_in(dev.path()), Devices { nvidia: true, render_nodes: nodes });
    }
}
