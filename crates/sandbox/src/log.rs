//! The game's output in a file that cannot fill the disk.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write};
use std::path::PathBuf;

use crate::settings::Log;

/// Two files of half the size each: the newest output is always there, and so is what came just before it.
#[derive(Debug)]
pub(crate) struct BoundedLog {
    settings: Log,
    file: File,
    length: u64,
}

impl BoundedLog {
    pub(crate) fn open(settings: Log) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&settings.file)?;
        let length = file.metadata()?.len();
        Ok(Self { settings, file, length })
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let half = self.settings.max_bytes / 2;
        while !bytes.is_empty() {
            if self.length >= half {
                self.rotate()?;
            }
            let room = usize::try_from(half - self.length).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(bytes.len().min(room));
            self.file.write_all(now)?;
            self.length += now.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut older = self.settings.file.clone().into_os_string();
        older.push(".1");
        rename(&self.settings.file, PathBuf::from(older))?;
        self.file = OpenOptions::new().create(true).append(true).open(&self.settings.file)?;
        self.length = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_longer_than_promised_and_the_newest_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("game.log");
        let mut log = BoundedLog::open(Log { file: file.clone(), max_bytes: 4096 }).unwrap();
        for line in 0..1000 {
            log.write(format!("line {line}\n").as_bytes()).unwrap();
        }
        let newest = std::fs::read_to_string(&file).unwrap();
        let older = std::fs::read_to_string(directory.path().join("game.log.1")).unwrap();
        assert!(newest.len() + older.len() <= 4096);
        assert!(format!("{older}{newest}").ends_with("line 998\nline 999\n"));
    }
}
