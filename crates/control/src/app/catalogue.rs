//! The apps that can be played: releases that channels point to, and packages in directories, which are read once, at the start.
//!
//! A package that cannot be read is left out with a warning that says why: one bad package takes none of the others along.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use api::content::STABLE;
use api::id::ContentId;
use api::manifest::{AppName, MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest};
use api::node::DesiredReplica;
use api::problem::{Problem, ProblemKind};
use api::rest::App;

use crate::store::{ChannelRecord, PlacementRecord, ReleaseRecord};

/// Largest picture in bytes that is served. The demo titles' have 60 kB; a page with many larger ones would crawl.
pub(crate) const MAX_PICTURE_BYTES: u64 = 4 * 1024 * 1024;

/// Most packages in one directory: more is not a directory of packages.
const MAX_PACKAGES: usize = 10_000;

/// Why the packages could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be read as a package or a directory of packages")]
pub(crate) struct CatalogueError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A package that was read.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) manifest: Manifest,
    pub(crate) source: Source,
}

/// Where a package's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A release.
    Release { number: u32, content: ContentId },
}

impl Package {
    /// The release's number, when it is one.
    pub(crate) fn release(&self) -> Option<u32> {
        match self.source {
            Source::Directory(_) => None,
            Source::Release { number, .. } => Some(number),
        }
    }
}

/// A picture's bytes and what they are.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) media_type: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// All packages.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    /// In directories, by name.
    packages: BTreeMap<AppName, Arc<Package>>,
    released: RwLock<Released>,
}

/// Releases, and where channels point.
#[derive(Debug, Default)]
pub(crate) struct Released {
    releases: BTreeMap<(AppName, u32), Arc<Package>>,
    channels: BTreeMap<(AppName, String), u32>,
    /// How much releases are wanted, by site.
    wanted: BTreeMap<String, Vec<DesiredReplica>>,
}

impl Released {
    /// As the database has them. A manifest that this version cannot read is left out with a warning.
    pub(crate) fn new(
        releases: Vec<ReleaseRecord>,
        channels: Vec<ChannelRecord>,
        placements: Vec<PlacementRecord>,
    ) -> Released {
        let read = |record: ReleaseRecord| match Manifest::parse(&record.manifest) {
            Ok(manifest) => {
                let source = Source::Release { number: record.number, content: record.content };
                Some(((record.app, record.number), Arc::new(Package { manifest, source })))
            }
            Err(error) => {
                tracing::warn!(app = %record.app, release = record.number, %error, "release left out");
                None
            }
        };
        let points = |channel: ChannelRecord| ((channel.app, channel.name), channel.release);
        let releases: BTreeMap<_, _> = releases.into_iter().filter_map(read).collect();
        let mut wanted: BTreeMap<String, Vec<DesiredReplica>> = BTreeMap::new();
        for PlacementRecord { app, release, site, policy } in placements {
            let package = app.parse().ok().and_then(|app: AppName| releases.get(&(app, release)));
            if let Some(Source::Release { content, .. }) = package.map(|package: &Arc<Package>| &package.source) {
                wanted.entry(site).or_default().push(DesiredReplica { content: content.clone(), policy });
            }
        }
        Released { releases, channels: channels.into_iter().map(points).collect(), wanted }
    }

    fn at(&self, name: &AppName, channel: &str) -> Option<Arc<Package>> {
        let number = self.channels.get(&(name.clone(), channel.to_owned()))?;
        self.releases.get(&(name.clone(), *number)).cloned()
    }
}

impl Catalogue {
    /// Reads all packages. Blocks.
    pub(crate) fn read(games: &[PathBuf]) -> Result<Self, CatalogueError> {
        let mut catalogue = Self::default();
        for path in games {
            for dir in package_dirs(path).map_err(|source| CatalogueError { path: path.clone(), source })? {
                match read_package(&dir) {
                    Ok(manifest) => catalogue.add(manifest, dir),
                    Err(error) => tracing::warn!(package = %dir.display(), error, "package left out"),
                }
            }
        }
        Ok(catalogue)
    }

    fn add(&mut self, manifest: Manifest, dir: PathBuf) {
        if let Some(first) = self.packages.get(&manifest.name) {
            let (app, first) = (&manifest.name, &first.source);
            tracing::warn!(package = %dir.display(), %app, ?first, "package left out: another one has its name");
            return;
        }
        tracing::info!(app = %manifest.name, package = %dir.display(), "package loaded");
        self.packages.insert(manifest.name.clone(), Arc::new(Package { manifest, source: Source::Directory(dir) }));
    }

    fn released(&self) -> std::sync::RwLockReadGuard<'_, Released> {
        self.released.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the database has now.
    pub(crate) fn set_released(&self, released: Released) {
        *self.released.write().unwrap_or_else(PoisonError::into_inner) = released;
    }

    /// The releases that shall be on a site.
    pub(crate) fn replicas_on(&self, site: &str) -> Vec<DesiredReplica> {
        self.released().wanted.get(site).cloned().unwrap_or_default()
    }

    /// True when the app has releases.
    pub(crate) fn has_releases(&self, name: &AppName) -> bool {
        self.released().releases.range((name.clone(), 0)..).next().is_some_and(|((app, _), _)| app == name)
    }

    /// True when a directory of the operator's has a package of this name.
    pub(crate) fn has_directory(&self, name: &AppName) -> bool {
        self.packages.contains_key(name)
    }

    /// The package that a session plays: a release for as long as it lives, or the directory's.
    pub(crate) fn played(&self, name: &AppName, release: Option<u32>) -> Option<Arc<Package>> {
        match release {
            Some(number) => self.released().releases.get(&(name.clone(), number)).cloned(),
            None => self.packages.get(name).cloned(),
        }
    }

    /// What a channel of an app points to; `stable` falls back to a directory's package.
    pub(crate) fn on_channel(&self, name: &str, channel: &str) -> Result<Arc<Package>, Problem> {
        if channel == STABLE {
            return self.package(name);
        }
        let found = name.parse().ok().and_then(|name: AppName| self.released().at(&name, channel));
        found.ok_or_else(|| {
            let (name, channel) =
                (name.chars().take(60).collect::<String>(), channel.chars().take(60).collect::<String>());
            ProblemKind::AppUnknown.because(format!("No app called `{name}` has a release on the channel `{channel}`."))
        })
    }

    /// One package by the name that a client sent: what `stable` points to, else a directory's.
    pub(crate) fn package(&self, name: &str) -> Result<Arc<Package>, Problem> {
        let unknown = || {
            let name: String = name.chars().take(60).collect();
            ProblemKind::AppUnknown.because(format!("No app is called `{name}`."))
        };
        let name: AppName = name.parse().map_err(|_no_name| unknown())?;
        let released = self.released().at(&name, STABLE);
        released.or_else(|| self.packages.get(&name).cloned()).ok_or_else(unknown)
    }

    /// All apps, by title.
    pub(crate) fn apps(&self) -> Vec<App> {
        let mut by_name: BTreeMap<AppName, Arc<Package>> = self.packages.clone();
        let released = self.released();
        let stable = released.channels.keys().filter(|(_, channel)| channel == STABLE);
        by_name.extend(stable.filter_map(|(name, channel)| Some((name.clone(), released.at(name, channel)?))));
        let mut apps: Vec<App> = by_name.values().map(|package| app(package)).collect();
        apps.sort_by(|a, b| a.title.cmp(&b.title).then_with(|| a.name.cmp(&b.name)));
        apps
    }
}

/// As players see it.
pub(crate) fn app(package: &Package) -> App {
    let manifest = &package.manifest;
    App {
        name: manifest.name.clone(),
        title: manifest.title.clone(),
        summary: manifest.summary.clone(),
        picture: manifest.picture.as_ref().map(|_| format!("/v1/apps/{}/picture", manifest.name)),
        display: manifest.display,
        input: manifest.input.clone(),
        spec: manifest.spec,
        class: manifest.class.clone(),
    }
}

/// Reads the picture of a package in a directory. Blocks.
pub(crate) fn picture(package: &Package, dir: &Path) -> Result<Picture, Problem> {
    let missing = |why: String| ProblemKind::PictureMissing.because(why);
    let name = &package.manifest.name;
    let path = package.manifest.picture.as_ref().ok_or_else(|| missing(format!("`{name}` names no picture.")))?;
    let bytes = read_inside(dir, path.as_str(), MAX_PICTURE_BYTES).map_err(|error| {
        tracing::warn!(app = %name, %error, "picture cannot be read");
        missing(format!("The picture of `{name}` cannot be read."))
    })?;
    let media_type = media_type(&bytes)
        .ok_or_else(|| missing(format!("The picture of `{name}` is neither PNG nor JPEG nor WebP.")))?;
    Ok(Picture { media_type, bytes })
}

/// By its first bytes: the name of a file proves nothing, and a wrong type could be run by a browser.
pub(crate) fn media_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

fn package_dirs(path: &Path) -> io::Result<Vec<PathBuf>> {
    let path = path.canonicalize()?;
    if path.join(MANIFEST_FILE).is_file() {
        return Ok(vec![path]);
    }
    let mut dirs = Vec::new();
    for entry in std::fs::read_dir(&path)?.take(MAX_PACKAGES) {
        let dir = entry?.path();
        if dir.join(MANIFEST_FILE).is_file() {
            dirs.push(dir);
        }
    }
    dirs.sort();
    Ok(dirs)
}

fn read_package(dir: &Path) -> Result<Manifest, String> {
    let limit = u64::try_from(MAX_MANIFEST_BYTES).unwrap_or(u64::MAX);
    let bytes = read_inside(dir, MANIFEST_FILE, limit).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_detail| format!("{MANIFEST_FILE} is not UTF-8"))?;
    Manifest::parse(&text).map_err(|errors| errors.to_string())
}

/// Reads a file of a package; a link that leads out of the package is refused.
fn read_inside(dir: &Path, name: &str, limit: u64) -> io::Result<Vec<u8>> {
    let path = dir.join(name).canonicalize()?;
    if !path.starts_with(dir.canonicalize()?) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{name} leads out of the package")));
    }
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is no file")));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{name} has more than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "good"
        title = "Good"
        summary = "A good one."
        picture = "picture.png"
        [launch]
        command = ["/bin/true"]
    "#;

    fn write(dir: &Path, name: &str, bytes: &[u8]) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_bad_package_does_not_take_the_good_ones_along() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a/kite.toml", GOOD.as_bytes());
        write(dir.path(), "b/kite.toml", b"name = 7");
        write(dir.path(), "c/kite.toml", b"\xff\xfe");
        write(dir.path(), "same-name/kite.toml", GOOD.as_bytes());
        write(dir.path(), "no-package/readme.txt", b"hello");
        let catalogue = Catalogue::read(&[dir.path().to_owned(), dir.path().join("a")]).unwrap();
        let apps = catalogue.apps();
        assert_eq!(apps.len(), 1);
        assert_eq!(apps[0].picture.as_deref(), Some("/v1/apps/good/picture"));
        assert!(matches!(&catalogue.package("good").unwrap().source, Source::Directory(dir) if dir.ends_with("a")));
        let problem = catalogue.package("Not A Name").unwrap_err();
        assert_eq!(problem.status, 404);
        assert!(Catalogue::read(&[dir.path().join("missing")]).is_err());
    }

    #[test]
    fn a_picture_is_what_its_bytes_are_and_lies_in_the_package() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "kite.toml", GOOD.as_bytes());
        let package = |catalogue: &Catalogue| picture(&catalogue.package("good").unwrap(), dir.path());
        let catalogue = Catalogue::read(&[dir.path().to_owned()]).unwrap();
        assert_eq!(package(&catalogue).unwrap_err().status, 404, "no such file");
        write(dir.path(), "picture.png", b"<svg onload=alert(1)>");
        assert_eq!(package(&catalogue).unwrap_err().status, 404, "no picture");
        write(dir.path(), "picture.png", b"\xff\xd8\xff\xe0rest");
        assert_eq!(package(&catalogue).unwrap().media_type, "image/jpeg");
        std::fs::remove_file(dir.path().join("picture.png")).unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(outside.path(), b"\x89PNG\r\n\x1a\nsecret").unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("picture.png")).unwrap();
        assert_eq!(package(&catalogue).unwrap_err().status, 404, "a link out of the package");
    }
}
