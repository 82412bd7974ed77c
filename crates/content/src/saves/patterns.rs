//! Which names are saves. Pure: names in, answers out; bytes, as Linux has them, and case counts.
//!
//! `*` is any part of one name, `**` between slashes is any number of directories; all other characters are themselves. A pattern that fits
//! a directory means all that is in it, as in Ludusavi's manifests. Names are matched one directory at a time, so that a walk
//! need not look where no pattern leads.

use crate::path::{PathError, TreePath};

/// Most patterns. A package's manifest may have so many; each costs time for every name that is looked at.
pub const MAX_PATTERNS: usize = 64;

/// Where a save lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// In the directory that the package lies in.
    Base,
    /// In the player's home.
    Home,
}

impl Place {
    /// In the order of their names.
    pub(super) const ALL: [Place; 2] = [Place::Base, Place::Home];

    /// Its directory at the top of a save's tree.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Place::Base => "base",
            Place::Home => "home",
        }
    }

    pub(super) fn path(self) -> TreePath {
        TreePath::new(self.name()).unwrap_or_else(|error| unreachable!("a plain name: {error}"))
    }
}

/// Names of saves in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// What `glob` is relative to.
    pub place: Place,
    /// For example `.local/share/chocolate-doom/**` or `saves/*.sav`. Empty: all of the place.
    pub glob: String,
}

/// Why patterns name no saves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Such names do not exist, so nothing would be kept.
    #[error("no save can be named by `{glob}` in {}: write it like `saves/*.sav`", place.name())]
    NotPlain {
        /// What it is relative to.
        place: Place,
        /// The pattern.
        glob: String,
        /// What is wrong.
        #[source]
        source: PathError,
    },
    /// It could mean two things.
    #[error("`**` is a part of a name in `{glob}` in {}: let it stand between slashes, or write `*`", place.name())]
    Stars {
        /// What it is relative to.
        place: Place,
        /// The pattern.
        glob: String,
    },
    /// More than [`MAX_PATTERNS`].
    #[error("{0} patterns name the saves, more than {MAX_PATTERNS}: name directories instead of files")]
    TooMany(usize),
}

/// One name of a pattern.
#[derive(Clone, Debug)]
enum Part {
    /// `**`
    Any,
    /// With stars in it or none.
    Name(Vec<u8>),
}

#[derive(Clone, Debug)]
struct Compiled {
    place: Place,
    parts: Vec<Part>,
}

/// The names that are saves.
#[derive(Clone, Debug)]
pub struct SavePaths {
    patterns: Vec<Compiled>,
}

/// How far patterns have come on the way to a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// A pattern fits what was named, or a directory above it.
    pub(super) is_wanted: bool,
    /// Patterns that may yet fit, each with its next part.
    open: Vec<(usize, usize)>,
}

impl Progress {
    /// Whether it, or something in it, can be a save.
    pub(super) fn is_alive(&self) -> bool {
        self.is_wanted || !self.open.is_empty()
    }
}

impl SavePaths {
    /// Checks the patterns.
    pub fn new(patterns: impl IntoIterator<Item = Pattern>) -> Result<SavePaths, PatternError> {
        let patterns = patterns.into_iter().map(compile).collect::<Result<Vec<_>, _>>()?;
        if patterns.len() > MAX_PATTERNS {
            return Err(PatternError::TooMany(patterns.len()));
        }
        Ok(SavePaths { patterns })
    }

    /// At the top of a place.
    pub(super) fn start(&self, place: Place) -> Progress {
        let mut progress = Progress { is_wanted: false, open: Vec::new() };
        for (index, _) in self.patterns.iter().enumerate().filter(|(_, pattern)| pattern.place == place) {
            self.arrive(&mut progress, index, 0);
        }
        progress
    }

    /// One name further.
    pub(super) fn step(&self, from: &Progress, name: &[u8]) -> Progress {
        let mut progress = Progress { is_wanted: from.is_wanted, open: Vec::new() };
        for &(index, at) in &from.open {
            match &self.patterns[index].parts[at] {
                // As the last part it fits whatever is below; before another one it may also go on.
                Part::Any if at + 1 == self.patterns[index].parts.len() => progress.is_wanted = true,
                Part::Any => self.arrive(&mut progress, index, at),
                Part::Name(pattern) if fits(pattern, name) => self.arrive(&mut progress, index, at + 1),
                Part::Name(_) => {}
            }
        }
        if progress.is_wanted {
            // Nothing more can be learnt.
            progress.open.clear();
        }
        progress.open.sort_unstable();
        progress.open.dedup();
        progress
    }

    fn arrive(&self, progress: &mut Progress, index: usize, mut at: usize) {
        let parts = &self.patterns[index].parts;
        // `**` may also be no directory at all; at the end it is at least one name.
        while at + 1 < parts.len() && matches!(parts[at], Part::Any) {
            progress.open.push((index, at));
            at += 1;
        }
        if at < parts.len() {
            progress.open.push((index, at));
        } else {
            progress.is_wanted = true;
        }
    }
}

fn compile(Pattern { place, glob }: Pattern) -> Result<Compiled, PatternError> {
    let plain = glob.trim_end_matches('/');
    if plain.is_empty() && glob.len() <= 1 {
        return Ok(Compiled { place, parts: Vec::new() });
    }
    if let Err(source) = TreePath::new(plain) {
        return Err(PatternError::NotPlain { place, glob, source });
    }
    let mut parts: Vec<Part> = Vec::new();
    for name in plain.split('/') {
        match name {
            // Twice says no more than once.
            "**" if matches!(parts.last(), Some(Part::Any)) => {}
            "**" => parts.push(Part::Any),
            _ if name.contains("**") => return Err(PatternError::Stars { place, glob }),
            _ => parts.push(Part::Name(name.into())),
        }
    }
    Ok(Compiled { place, parts })
}

/// Whether a pattern with single stars fits a name. A star that fitted too little takes one byte more: at most pattern times name steps.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while n < name.len() {
        match (pattern.get(p), last_star) {
            (Some(b'*'), _) => {
                last_star = Some((p, n));
                p += 1;
            }
            (Some(byte), _) if *byte == name[n] => {
                p += 1;
                n += 1;
            }
            (_, Some((star, taken))) => {
                last_star = Some((star, taken + 1));
                p = star + 1;
                n = taken + 1;
            }
            (_, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn home(glob: &str) -> Pattern {
        Pattern { place: Place::Home, glob: glob.into() }
    }

    fn reached(paths: &SavePaths, path: &[u8]) -> Progress {
        let names = path.split(|byte| *byte == b'/');
        names.fold(paths.start(Place::Home), |progress, name| paths.step(&progress, name))
    }

    fn check(glob: &str, saves: &[&[u8]], others: &[&[u8]]) {
        let paths = SavePaths::new([home(glob)]).unwrap();
        for path in saves {
            assert!(reached(&paths, path).is_wanted, "{glob} {}", path.escape_ascii());
        }
        for path in others {
            assert!(!reached(&paths, path).is_wanted, "{glob} {}", path.escape_ascii());
        }
    }

    #[test]
    fn what_patterns_mean() {
        let doom = ".local/share/doom";
        check(doom, &[b".local/share/doom", b".local/share/doom/a/b"], &[b".local/share", b".local/share/doom2"]);
        check(".local/share/doom/", &[b".local/share/doom/a"], &[b".local/share/Doom/a"]);
        check("x/**", &[b"x/a", b"x/a/b", b"x/\xff\n"], &[b"x", b"y/x/a"]);
        check("saves/*.sav", &[b"saves/1.sav", b"saves/.sav", b"saves/\xff.sav"], &[b"saves/a/1.sav", b"saves/1.SAV"]);
        check("saves/*.sav", &[b"saves/slot.sav/part"], &[b"1.sav", b"saves/1.sav.tmp"]);
        check("**/*.sav", &[b"a.sav", b"a/b/c.sav"], &[b"a/b/sav"]);
        check("a/**/b", &[b"a/b", b"a/x/b", b"a/x/y/b/c"], &[b"a/x", b"b"]);
        check("**/**/x", &[b"x", b"a/b/x"], &[b"a"]);
        check("**", &[b"a", b"a/b"], &[]);
        check("", &[b"a", b"a/b"], &[]);
        check("*", &[b"a", b"a/b"], &[]);
        check("a*b*c", &[b"abc", b"axbxbc", b"abcbc"], &[b"abcd", b"ab", b"acb"]);
        check("[a]?{b,c}", &[b"[a]?{b,c}"], &[b"axb", b"a?b"]);
        let other = SavePaths::new([Pattern { place: Place::Base, glob: "a".into() }]).unwrap();
        assert!(!reached(&other, b"a").is_alive());
    }

    #[test]
    fn a_walk_need_not_look_where_no_pattern_leads() {
        let paths = SavePaths::new([home(".config/game/*.cfg"), home(".local/share/game/**")]).unwrap();
        for (path, is_alive) in [
            (".config", true),
            (".config/game", true),
            (".config/game/dir", false),
            (".config/other", false),
            (".cache", false),
            (".local/share", true),
            (".local/share/game/deep/er", true),
        ] {
            assert_eq!(reached(&paths, path.as_bytes()).is_alive(), is_alive, "{path}");
        }
    }

    #[test]
    fn patterns_that_can_fit_nothing_are_refused_by_name() {
        for bad in ["/etc", "a//b", "../x", "a/../b", "./a", "a\0", "//"] {
            let error = SavePaths::new([home(bad)]).unwrap_err();
            assert!(matches!(&error, PatternError::NotPlain { glob, .. } if glob == bad), "{error}");
        }
        let error = SavePaths::new([home("a/b**")]).unwrap_err();
        assert!(matches!(error, PatternError::Stars { .. }) && error.to_string().contains("`a/b**`"), "{error}");
        let error = SavePaths::new(vec![home("a"); 65]).unwrap_err();
        assert_eq!(error, PatternError::TooMany(65));
    }

    /// What a star means, without regard to how long it takes.
    fn fits_plainly(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|skipped| fits_plainly(rest, &name[skipped..])),
            Some((byte, rest)) => {
                name.split_first().is_some_and(|(first, name)| first == byte && fits_plainly(rest, name))
            }
        }
    }

    proptest! {
        #[test]
        fn stars_fit_what_they_should(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            let [pattern, name] = [pattern.as_bytes(), name.as_bytes()];
            prop_assert_eq!(fits(pattern, name), fits_plainly(pattern, name));
        }
    }
}
