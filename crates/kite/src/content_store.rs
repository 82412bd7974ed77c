//! `kite content`: the store of releases and saves, on the machine of the control plane, whether that runs or not.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use content::{CollectProgress, Problem, Verified};
use control::keeper;

use crate::config::Config;
use crate::{install, say};

/// How often the progress is shown: one in so many steps.
const SHOW_EACH: u64 = 32;

#[derive(Debug, Subcommand)]
pub(crate) enum ContentCommand {
    /// Read everything that releases and saves need and compare it with its names. Exits with 1 when something is wrong.
    Verify {
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Count: bytes of all releases and saves, what of it is the same, what it takes.
    Stats {
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Remove what nothing needs and what is older than a day. A running control plane does this by itself.
    Collect {
        #[command(flatten)]
        place: PlaceArgs,
        /// Only say what would be removed.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct PlaceArgs {
    /// The data directory of `kite up`.
    #[arg(long, env = "KITE_DATA")]
    data: Option<PathBuf>,
    /// Its configuration file, when store or database are elsewhere; `config.toml` in the data directory when it is there.
    #[arg(long, env = "KITE_CONFIG")]
    config: Option<PathBuf>,
}

impl PlaceArgs {
    /// The places that `kite up` has by the same configuration.
    fn find(&self) -> anyhow::Result<keeper::Place> {
        let default = self.data.clone().unwrap_or_else(install::data_dir);
        let path = self.config.clone().unwrap_or_else(|| default.join("config.toml"));
        let config = if path.is_file() || self.config.is_some() { Config::read(&path)? } else { Config::default() };
        let data = self.data.clone().or_else(|| config.data.clone()).unwrap_or(default);
        Ok(keeper::Place { database: config.database()?, content: config.store(&data)?, data_dir: data })
    }
}

pub(crate) fn run(command: ContentCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            ContentCommand::Verify { place } => verify(&place).await,
            ContentCommand::Stats { place } => stats(&place).await,
            ContentCommand::Collect { place, dry_run } => collect(&place, dry_run).await,
        }
    })
}

async fn verify(place: &PlaceArgs) -> anyhow::Result<ExitCode> {
    let place = place.find()?;
    let progress = |Verified { objects, of }: Verified| {
        if objects % SHOW_EACH == 0 || objects == of {
            say::progress(&format!("{objects} of {of} objects"));
        }
    };
    let faults = keeper::verify(&place, &progress).await?;
    say::progress("");
    for fault in &faults {
        let what = match fault.problem {
            Problem::Missing => "is missing".to_owned(),
            Problem::Damaged => "is damaged".to_owned(),
            Problem::Lacks { chunks } => format!("lacks {chunks} chunks"),
        };
        let roots: Vec<String> = fault.roots.iter().map(ToString::to_string).collect();
        say::out(&format!("{} {what}; needed by {}", fault.object, roots.join(", ")));
    }
    if faults.is_empty() {
        say::out("Everything that releases and saves need is there and whole.");
        return Ok(ExitCode::SUCCESS);
    }
    say::out("Restore these objects from a copy of the store, or push their releases again.");
    Ok(ExitCode::FAILURE)
}

async fn stats(place: &PlaceArgs) -> anyhow::Result<ExitCode> {
    let place = place.find()?;
    let stats = keeper::stats(&place).await?;
    let ratio = stats.ratio().map_or_else(|| "none".to_owned(), |ratio| format!("{ratio:.2}"));
    let mut lines = vec![
        format!("logical {:>16} bytes of files in all releases", stats.logical_bytes),
        format!("unique  {:>16} bytes of these are different", stats.unique_bytes),
        format!("stored  {:>16} bytes of releases in the store, compressed", stats.stored_bytes),
        format!("ratio   {ratio:>16} logical over stored"),
        format!("saves   {:>16} bytes, encrypted", stats.sealed_bytes),
    ];
    let kinds = [("packs", stats.packs), ("trees", stats.trees), ("roots", stats.roots)];
    lines.extend(
        kinds.iter().map(|(kind, amount)| format!("{kind:8}{:>16} objects, {} bytes", amount.objects, amount.bytes)),
    );
    say::out(&lines.join("\n"));
    Ok(ExitCode::SUCCESS)
}

async fn collect(place: &PlaceArgs, dry_run: bool) -> anyhow::Result<ExitCode> {
    let place = place.find()?;
    let progress = |progress: CollectProgress| {
        let (what, number) = match progress {
            CollectProgress::Listed(number) => ("objects listed", number),
            CollectProgress::Read(number) => ("releases and saves read", number),
            CollectProgress::Removed(number) => ("objects removed", number),
        };
        if number % SHOW_EACH == 0 {
            say::progress(&format!("{number} {what}"));
        }
    };
    let collected = keeper::collect(&place, dry_run, &progress).await?;
    say::progress("");
    let would = if dry_run { "would be removed" } else { "removed" };
    say::out(&format!(
        "{} objects with {} bytes {would}; {} are needed, {} younger than a day",
        collected.removed.objects + collected.staging.objects,
        collected.removed.bytes + collected.staging.bytes,
        collected.kept.objects,
        collected.young.objects
    ));
    Ok(ExitCode::SUCCESS)
}
