//! The directories of one instance: made before it starts, removed after it ended.
//!
//! ```text
//! WORK/instances/ID/home     the game's home            DATA/logs/ID/    logs, kept for a while after the end
//! WORK/rescue/ID/            home and layer of an instance whose save did not become a version
//! WORK/instances/ID/layer    the game's own writes      RUN/ID/          sockets, owned by the streamer
//! ```

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, lchown};
use std::path::{Component, Path, PathBuf};

use api::id::InstanceId;
use api::manifest::Placeholder;

use crate::settings::NodeSettings;

/// Largest file of a package's home whose placeholders are replaced. Settings files are small; a larger one is data.
const MAX_TEMPLATE_BYTES: u64 = 1 << 20;

/// Files and directories that a package's home may have. More belongs into the package, which is not copied.
const MAX_HOME_FILES: usize = 2000;

/// The directories.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    root: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) layer: PathBuf,
    pub(crate) runtime: PathBuf,
    pub(crate) logs: PathBuf,
}

/// Where instances of this agent are.
pub(crate) fn instances_dir(settings: &NodeSettings) -> PathBuf {
    settings.work_dir.join("instances")
}

pub(crate) fn logs_dir(settings: &NodeSettings) -> PathBuf {
    settings.data_dir.join("logs")
}

/// Makes the directories that all instances share.
pub(crate) fn create_shared(settings: &NodeSettings) -> io::Result<()> {
    create(&instances_dir(settings), 0o711)?;
    create(&logs_dir(settings), 0o700)?;
    create(&settings.runtime_dir, 0o711)
}

fn create(dir: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(dir)?;
    // After the umask.
    fs::set_permissions(dir, Permissions::from_mode(mode))
}

impl Place {
    /// Where they are; nothing is made yet.
    pub(crate) fn of(settings: &NodeSettings, instance: InstanceId) -> Self {
        let root = instances_dir(settings).join(instance.to_string());
        Self {
            home: root.join("home"),
            layer: root.join("layer"),
            root,
            runtime: settings.runtime_dir.join(instance.to_string()),
            logs: logs_dir(settings).join(instance.to_string()),
        }
    }

    /// Makes them. `uid` is who the streamer and the game run as when that is not the caller.
    pub(crate) fn create(&self, uid: Option<u32>) -> io::Result<()> {
        for (dir, mode) in [(&self.root, 0o700), (&self.home, 0o700), (&self.layer, 0o700), (&self.logs, 0o700)] {
            create(dir, mode)?;
        }
        create(&self.runtime, 0o700)?;
        chown(&self.runtime, uid, uid)
    }

    /// Copies a package's home, replacing placeholders in `.template` files.
    pub(crate) fn fill_home(
        &self,
        source: &Path,
        uid: Option<u32>,
        values: &dyn Fn(Placeholder) -> String,
    ) -> io::Result<()> {
        let mut files = 0;
        copy_tree(source, &self.home, uid, values, &mut files)
    }

    /// A path that the streamer names, with the links of the operator's own directories resolved; refused when it is not below the
    /// streamer's own directory.
    pub(crate) fn own_runtime_path(&self, path: &Path) -> io::Result<PathBuf> {
        let below = path.strip_prefix(&self.runtime).ok();
        let below = below.filter(|below| below.components().all(|part| matches!(part, Component::Normal(_))));
        let refused = || io::Error::other(format!("the streamer named {}, which is not its own", path.display()));
        Ok(fs::canonicalize(&self.runtime)?.join(below.ok_or_else(refused)?))
    }

    /// Puts home and layer where no later start removes them; where that is.
    pub(crate) fn rescue(&self, settings: &NodeSettings) -> io::Result<PathBuf> {
        let rescue = settings.work_dir.join("rescue");
        create(&rescue, 0o700)?;
        let kept = rescue.join(self.root.file_name().unwrap_or_default());
        fs::rename(&self.root, &kept)?;
        Ok(kept)
    }

    /// Removes everything but the logs.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        // A game made what is in there.
        let first = gone(sandbox::remove_tree(&self.root));
        gone(sandbox::remove_tree(&self.runtime)).and(first)
    }
}

/// Replaces every placeholder.
pub(crate) fn expand(text: &str, values: &dyn Fn(Placeholder) -> String) -> String {
    Placeholder::ALL.iter().fold(text.to_owned(), |text, placeholder| {
        if text.contains(placeholder.text()) { text.replace(placeholder.text(), &values(*placeholder)) } else { text }
    })
}

fn copy_tree(
    source: &Path,
    target: &Path,
    uid: Option<u32>,
    values: &dyn Fn(Placeholder) -> String,
    files: &mut usize,
) -> io::Result<()> {
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        *files += 1;
        if *files > MAX_HOME_FILES {
            return Err(io::Error::other(format!("the package's home has more than {MAX_HOME_FILES} files")));
        }
        let kind = entry.file_type()?;
        let name = entry.file_name();
        if kind.is_dir() {
            let dir = target.join(&name);
            create(&dir, 0o700)?;
            lchown(&dir, uid, uid)?;
            copy_tree(&entry.path(), &dir, uid, values, files)?;
        } else if kind.is_file() {
            let file = copy_file(&entry.path(), target, &name.to_string_lossy(), values)?;
            fs::set_permissions(&file, Permissions::from_mode(0o600))?;
            lchown(&file, uid, uid)?;
        }
        // Links and special files of a package are not followed and not copied: they could lead out of it.
    }
    Ok(())
}

fn copy_file(
    source: &Path,
    target_dir: &Path,
    name: &str,
    values: &dyn Fn(Placeholder) -> String,
) -> io::Result<PathBuf> {
    if let Some(name) = name.strip_suffix(".template")
        && fs::metadata(source)?.len() <= MAX_TEMPLATE_BYTES
    {
        let target = target_dir.join(name);
        fs::write(&target, expand(&fs::read_to_string(source)?, values))?;
        return Ok(target);
    }
    let target = target_dir.join(name);
    fs::copy(source, &target)?;
    Ok(target)
}

/// Removes the oldest directories of logs until `kept` are left, beside those of instances that still run.
pub(crate) fn prune_logs(settings: &NodeSettings) {
    let Ok(entries) = fs::read_dir(logs_dir(settings)) else { return };
    // Ids sort by creation.
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.parse::<InstanceId>().is_ok() && !instances_dir(settings).join(name).exists())
        .collect();
    names.sort_unstable();
    let surplus = names.len().saturating_sub(settings.kept_logs);
    for name in &names[..surplus] {
        if let Err(error) = fs::remove_dir_all(logs_dir(settings).join(name)) {
            tracing::warn!(instance = name, %error, "old logs cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streamer_names_only_what_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = dir.path().join("run");
        fs::create_dir(&runtime).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&runtime, &link).unwrap();
        let place = Place {
            root: dir.path().join("root"),
            home: dir.path().join("home"),
            layer: dir.path().join("layer"),
            runtime: link.clone(),
            logs: dir.path().join("logs"),
        };
        assert_eq!(place.own_runtime_path(&link.join("x11/X0")).unwrap(), runtime.join("x11/X0"));
        for foreign in ["/etc/shadow", "../other/wayland-0", "x11/../../other"] {
            let error = place.own_runtime_path(&link.join(foreign)).unwrap_err();
            assert!(error.to_string().contains("not its own"), "{error}");
        }
    }

    #[test]
    fn a_home_is_copied_with_placeholders_replaced_and_links_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("source"), dir.path().join("target"));
        fs::create_dir_all(source.join("deep")).unwrap();
        fs::create_dir(&target).unwrap();
        fs::write(source.join("deep/a.cfg.template"), "size <width>x<height> <unknown>").unwrap();
        fs::write(source.join("plain"), "<width>").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", source.join("link")).unwrap();
        let values = |placeholder: Placeholder| match placeholder {
            Placeholder::Width => "1280".to_owned(),
            other => other.text().to_uppercase(),
        };
        copy_tree(&source, &target, None, &values, &mut 0).unwrap();
        assert_eq!(fs::read_to_string(target.join("deep/a.cfg")).unwrap(), "size 1280x<HEIGHT> <unknown>");
        assert_eq!(fs::read_to_string(target.join("plain")).unwrap(), "<width>");
        assert!(!target.join("link").exists());
    }
}
