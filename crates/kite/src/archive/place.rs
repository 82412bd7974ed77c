//! The directory that is unpacked into, and what may be written there.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, bail};

/// Bytes that are copied at once; so many zeros become a hole.
const BLOCK_BYTES: usize = 64 << 10;

/// What an executable begins with: a program, or a script.
const EXECUTABLE: [&[u8]; 2] = [b"\x7fELF", b"#!"];

/// May a file be run?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Executable {
    Yes,
    No,
    /// The archive does not say, as those that were made on Windows: when it looks like it.
    Perhaps,
}

/// Set-user-id and set-group-id.
const PRIVILEGE_BITS: u32 = 0o6000;

impl Executable {
    /// What a Unix mode says; refused for a file that would run as somebody else.
    pub(super) fn of_mode(name: &Path, mode: u32) -> anyhow::Result<Executable> {
        if mode & PRIVILEGE_BITS != 0 {
            bail!("{} has a set-user-id or set-group-id bit: take it away (chmod ug-s)", name.display());
        }
        Ok(if mode & 0o111 == 0 { Executable::No } else { Executable::Yes })
    }
}

/// The directory. Nobody else may enter it, so that names looked at stay what they are.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
}

impl Place {
    pub(super) fn new(root: &Path) -> Place {
        Place { root: root.to_owned() }
    }

    /// The path of an entry with all directories above it. Never outside, never through a link.
    fn path(&self, name: &Path) -> anyhow::Result<PathBuf> {
        let mut path = self.root.clone();
        let mut parts = name.components().filter(|part| *part != Component::CurDir).peekable();
        while let Some(part) = parts.next() {
            let Component::Normal(part) = part else {
                bail!("{} leads out of the archive", name.display());
            };
            path.push(part);
            if parts.peek().is_some() {
                make_directory(&path)?;
            }
        }
        Ok(path)
    }

    /// The path of an entry that takes the place of one of the same name that came before.
    fn free_path(&self, name: &Path) -> anyhow::Result<PathBuf> {
        let path = self.path(name)?;
        if path == self.root {
            bail!("an entry has no name");
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} comes twice", name.display()))
            }
            _ => Ok(path),
        }
    }

    pub(super) fn directory(&mut self, name: &Path) -> anyhow::Result<()> {
        make_directory(&self.path(name)?)
    }

    pub(super) fn symlink(&mut self, name: &Path, target: &Path) -> anyhow::Result<()> {
        let path = self.free_path(name)?;
        symlink(target, path).with_context(|| format!("{} cannot be made", name.display()))
    }

    pub(super) fn hard_link(&mut self, name: &Path, to: &Path) -> anyhow::Result<()> {
        let (first, path) = (self.path(to)?, self.free_path(name)?);
        fs::hard_link(first, path)
            .with_context(|| format!("{} cannot be made: a link to {}", name.display(), to.display()))
    }

    pub(super) fn file(
        &mut self,
        name: &Path,
        executable: Executable,
        modified: SystemTime,
        content: &mut dyn Read,
    ) -> anyhow::Result<()> {
        let path = self.free_path(name)?;
        let mut write = || -> io::Result<()> {
            let mut file = File::create_new(&path)?;
            let begins = copy(content, &mut file)?;
            let is_executable = match executable {
                Executable::Yes => true,
                Executable::No => false,
                Executable::Perhaps => EXECUTABLE.iter().any(|beginning| begins.starts_with(beginning)),
            };
            file.set_permissions(Permissions::from_mode(if is_executable { 0o755 } else { 0o644 }))?;
            file.set_modified(modified)
        };
        write().with_context(|| format!("{} cannot be unpacked", name.display()))
    }
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(path)?.is_dir() => Ok(()),
        made => made.with_context(|| format!("the directory {} cannot be made", path.display())),
    }
}

/// Copies with holes where only zeros are; the first bytes.
fn copy(from: &mut dyn Read, to: &mut File) -> io::Result<Vec<u8>> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    let mut begins = None;
    let mut length = 0;
    loop {
        block.clear();
        from.take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            to.set_len(length)?;
            return Ok(begins.unwrap_or_default());
        }
        length += block.len() as u64;
        begins.get_or_insert_with(|| block[..block.len().min(4)].to_vec());
        if block.iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Start(length))?;
        } else {
            to.write_all(&block)?;
        }
    }
}
