//! `kite app`: packages of games, looked at here or sent to a server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use api::manifest::{MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest, Placeholder};
use clap::Subcommand;

use crate::session::Server;
use crate::{install, push, release, say};

/// Largest picture that the server sends.
const MAX_PICTURE_BYTES: u64 = 4 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// Check a package: its manifest, picture, program. Exits with 1 when something is wrong.
    Check {
        /// Directory with a kite.toml.
        dir: PathBuf,
    },
    /// Upload a package, a directory or an archive: a new release of its app. What the server has already is not sent; a push that broke
    /// goes on with the next.
    Push(push::PushArgs),
    /// List an app's releases, newest first, with the channels that point to them.
    Releases {
        #[command(flatten)]
        server: Server,
        /// The app's name.
        app: String,
    },
    /// Point a channel to a release: who starts now gets it.
    Promote {
        #[command(flatten)]
        server: Server,
        /// The app's name.
        app: String,
        /// The release's number.
        release: u32,
        /// The channel.
        #[arg(long, default_value = api::content::STABLE)]
        channel: String,
    },
    /// Point a channel back to the release before.
    Rollback {
        #[command(flatten)]
        server: Server,
        /// The app's name.
        app: String,
        /// The channel.
        #[arg(long, default_value = api::content::STABLE)]
        channel: String,
    },
    /// Remove a release that no channel points to and nobody plays.
    Remove {
        #[command(flatten)]
        server: Server,
        /// The app's name.
        app: String,
        /// The release's number.
        release: u32,
    },
    /// Say how much a release is wanted on a site, or look how it is doing there.
    Place {
        #[command(flatten)]
        server: Server,
        /// The app's name.
        app: String,
        /// The release's number.
        release: u32,
        /// How much; nothing changes without.
        #[arg(long, value_enum)]
        policy: Option<release::PolicyName>,
    },
    /// List packages, and what keeps each from being played here.
    List {
        /// Packages, or directories of packages; those that come with Kite when none is given.
        #[arg(long)]
        games: Vec<PathBuf>,
    },
}

pub(crate) fn run(command: AppCommand) -> anyhow::Result<ExitCode> {
    match command {
        AppCommand::Check { dir } => {
            let checked = check(&dir);
            for fault in &checked.faults {
                say::out(&format!("{}: {fault}", dir.join(MANIFEST_FILE).display()));
            }
            if let (Some(manifest), true) = (&checked.manifest, checked.faults.is_empty()) {
                say::out(&format!("{}: `{}` ({}) can be played", dir.display(), manifest.name, manifest.title));
                return Ok(ExitCode::SUCCESS);
            }
            Ok(ExitCode::FAILURE)
        }
        AppCommand::Push(args) => push::run(args),
        AppCommand::Releases { server, app } => release::list(&server, &app),
        AppCommand::Promote { server, app, release, channel } => release::promote(&server, &app, release, &channel),
        AppCommand::Rollback { server, app, channel } => release::roll_back(&server, &app, &channel),
        AppCommand::Remove { server, app, release } => release::remove(&server, &app, release),
        AppCommand::Place { server, app, release, policy } => release::place(&server, &app, release, policy),
        AppCommand::List { games } => {
            let games = if games.is_empty() { install::games_dir().into_iter().collect() } else { games };
            for dir in packages(&games)? {
                let checked = check(&dir);
                let name =
                    checked.manifest.map_or_else(|| dir.display().to_string(), |manifest| manifest.name.to_string());
                let state = if checked.faults.is_empty() { "ready".to_owned() } else { checked.faults.join("; ") };
                say::out(&format!("{name:24} {state}"));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The packages in these places, in order of their paths.
pub(crate) fn packages(places: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for place in places {
        if place.join(MANIFEST_FILE).is_file() {
            found.push(place.clone());
            continue;
        }
        let entries =
            std::fs::read_dir(place).with_context(|| format!("cannot read the games in {}", place.display()))?;
        let mut dirs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        dirs.retain(|dir| dir.join(MANIFEST_FILE).is_file());
        dirs.sort();
        found.extend(dirs);
    }
    Ok(found)
}

/// A package that was looked at.
#[derive(Debug)]
pub(crate) struct Checked {
    /// When the manifest is good.
    pub(crate) manifest: Option<Manifest>,
    /// What is wrong, each with what to do.
    pub(crate) faults: Vec<String>,
}

/// Looks at a package as it would be played on this machine.
pub(crate) fn check(dir: &Path) -> Checked {
    let manifest = match read_manifest(dir) {
        Ok(manifest) => manifest,
        Err(faults) => return Checked { manifest: None, faults },
    };
    let mut faults = Vec::new();
    faults.extend(program_fault(dir, &manifest));
    if let Some(picture) = &manifest.picture {
        faults.extend(picture_fault(&dir.join(picture.as_str())));
    }
    if let Some(home) = &manifest.launch.home
        && !dir.join(home.as_str()).is_dir()
    {
        faults.push(format!("launch.home: there is no directory `{}`. Make it, or remove the line.", home.as_str()));
    }
    Checked { manifest: Some(manifest), faults }
}

pub(crate) fn read_manifest(dir: &Path) -> Result<Manifest, Vec<String>> {
    let path = dir.join(MANIFEST_FILE);
    let size = std::fs::metadata(&path).map_err(|error| vec![format!("cannot be read: {error}")])?.len();
    if size > u64::try_from(MAX_MANIFEST_BYTES).unwrap_or(u64::MAX) {
        return Err(vec![format!("has {size} bytes, but a manifest has at most {MAX_MANIFEST_BYTES}")]);
    }
    let text = std::fs::read_to_string(&path).map_err(|error| vec![format!("cannot be read: {error}")])?;
    Manifest::parse(&text).map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
}

fn program_fault(dir: &Path, manifest: &Manifest) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let program = manifest.launch.command.first()?;
    let path = match program.strip_prefix(Placeholder::Base.text()) {
        Some(inside) => dir.join(inside.trim_start_matches('/')),
        None => PathBuf::from(program),
    };
    match std::fs::metadata(&path) {
        Ok(file) if file.is_file() && file.permissions().mode() & 0o111 != 0 => None,
        Ok(_) => Some(format!("launch.command: {} is no program. Make it executable (chmod +x).", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Some(format!("launch.command: {} is not there. Install it, or correct the path.", path.display()))
        }
        Err(error) => Some(format!("launch.command: {}: {error}", path.display())),
    }
}

fn picture_fault(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| {
        let size = file.metadata()?.len();
        file.take(12).read_to_end(&mut start)?;
        Ok(size)
    });
    let known = start.starts_with(b"\x89PNG\r\n\x1a\n")
        || start.starts_with(b"\xff\xd8\xff")
        || (start.starts_with(b"RIFF") && start.ends_with(b"WEBP"));
    match read {
        Err(error) => Some(format!("picture: {}: {error}. Add the file, or remove the line.", path.display())),
        Ok(size) if size > MAX_PICTURE_BYTES => {
            Some(format!("picture: {size} bytes. Shrink it: 640x360 pixels and 100 kB are enough."))
        }
        Ok(_) if !known => Some("picture: neither PNG nor JPEG nor WebP by its content. Convert it.".to_owned()),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_package(files: &[(&str, &[u8])], expected: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        let faults = check(dir.path()).faults;
        assert_eq!(faults.len(), expected.len(), "{faults:?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.contains(expected), "`{fault}` has no `{expected}`");
        }
    }

    #[test]
    fn packages_are_checked() {
        let good = b"name = \"a\"\ntitle = \"A\"\npicture = \"p.png\"\n[launch]\ncommand = [\"/bin/sh\"]\n".as_slice();
        check_package(&[("kite.toml", good), ("p.png", b"\x89PNG\r\n\x1a\nrest")], &[]);
        check_package(&[("kite.toml", good), ("p.png", b"GIF89a")], &["neither PNG"]);
        check_package(&[("kite.toml", good)], &["picture"]);
        check_package(&[("kite.toml", b"name = 1")], &["line 1"]);
        check_package(&[], &["cannot be read"]);
        let bad = b"name = \"a\"\ntitle = \"A\"\n[launch]\ncommand = [\"<base>/run\"]\nhome = \"home\"\n".as_slice();
        check_package(&[("kite.toml", bad), ("run", b"#!/bin/sh\n")], &["chmod +x", "no directory `home`"]);
        let absent = b"name = \"a\"\ntitle = \"A\"\n[launch]\ncommand = [\"/usr/games/none-such\"]\n".as_slice();
        check_package(&[("kite.toml", absent)], &["is not there"]);
    }

    #[test]
    fn the_demo_games_manifests_are_good() {
        let games = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../games");
        let dirs = packages(&[games]).unwrap();
        assert!(dirs.len() >= 3, "{dirs:?}");
        for dir in dirs {
            let manifest = read_manifest(&dir).unwrap();
            assert!(dir.ends_with(manifest.name.as_str()), "{} is in {}", manifest.name, dir.display());
            assert_eq!(picture_fault(&dir.join(manifest.picture.unwrap().as_str())), None);
        }
    }
}
