//! `kite app push`: a directory or an archive becomes a release on a server.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use api::content::{CreatedUpload, ParcelTaken, Release, UploadEnd};
use api::id::UploadId;
use bytes::Bytes;
use clap::Args;
use content::ChunkId;
use content::transfer::{Progress, Pushed, Remote, RemoteError, push};
use hyper::Method;
use tokio::sync::Notify;

use crate::archive::{self, Unpacked};
use crate::client::{Api, ApiError};
use crate::session::Server;
use crate::{app, say};

const OCTETS: &str = "application/octet-stream";

/// How often a request is tried again that the network broke: a server that restarts is back within these times.
const RETRIES: [Duration; 4] =
    [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10)];

/// How often the progress is shown.
const SHOW_PERIOD: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    server: Server,
    /// Directory with a kite.toml, or an archive of one: tar, also compressed by gzip, bzip2, xz or zstd, or zip. An archive is unpacked
    /// below TMPDIR first.
    package: PathBuf,
    /// Channel that shall point to the new release at once. The first release of an app gets `stable`, later ones none.
    #[arg(long)]
    channel: Option<String>,
    /// Print one JSON object at the end instead of sentences.
    #[arg(long)]
    json: bool,
}

/// An upload over the REST API.
struct RestUpload {
    api: Api,
    upload: UploadId,
    channel: Option<String>,
}

fn remote(error: ApiError) -> RemoteError {
    RemoteError(Box::new(error))
}

impl RestUpload {
    /// Sends, and again when the way or the server broke: everything that is sent here can be sent twice.
    async fn post(&self, path: &str, body: impl Into<Bytes>) -> Result<Bytes, RemoteError> {
        let path = format!("/v1/uploads/{}/{path}", self.upload);
        let body: Bytes = body.into();
        let mut retries = RETRIES.iter();
        loop {
            match self.api.exchange(Method::POST, &path, Some((OCTETS, body.clone()))).await {
                Err(error @ ApiError::Other(_)) => match retries.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err(remote(error)),
                },
                answered => return answered.map_err(remote),
            }
        }
    }
}

fn read_ids(names: &[String]) -> Result<Vec<ChunkId>, RemoteError> {
    names.iter().map(|name| name.parse().map_err(|error| RemoteError(Box::new(error)))).collect()
}

fn read_json<T: serde::de::DeserializeOwned>(bytes: &Bytes) -> Result<T, RemoteError> {
    serde_json::from_slice(bytes).map_err(|error| RemoteError(Box::new(error)))
}

impl Remote for RestUpload {
    async fn signatures(&self, numbers: Vec<u32>) -> Result<Vec<u8>, RemoteError> {
        let body: Vec<u8> = numbers.into_iter().flat_map(u32::to_le_bytes).collect();
        Ok(self.post("signatures", body).await?.into())
    }

    async fn send(&self, parcel: Bytes) -> Result<Vec<ChunkId>, RemoteError> {
        let taken: ParcelTaken = read_json(&self.post("parcels", parcel).await?)?;
        read_ids(&taken.refused)
    }

    async fn finish(&self, outline: Vec<u8>) -> Result<Result<String, Vec<ChunkId>>, RemoteError> {
        let path = match &self.channel {
            Some(channel) => format!("finish?channel={channel}"),
            None => "finish".to_owned(),
        };
        match read_json(&self.post(&path, outline).await?)? {
            UploadEnd::Released { release } => {
                Ok(Ok(serde_json::to_string(&release).map_err(|error| RemoteError(Box::new(error)))?))
            }
            UploadEnd::Missing { chunks } => Ok(Err(read_ids(&chunks)?)),
        }
    }
}

pub(crate) fn run(args: PushArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let pushed = runtime.block_on(push_package(args));
    // What was stopped may still be reading.
    runtime.shutdown_background();
    pushed.map(|()| ExitCode::SUCCESS)
}

/// Where a package is read from.
enum Source {
    Directory(PathBuf),
    Archive(Unpacked),
}

impl Source {
    fn directory(&self) -> &Path {
        match self {
            Source::Directory(directory) => directory,
            Source::Archive(unpacked) => &unpacked.package,
        }
    }

    async fn open(package: &Path) -> anyhow::Result<Source> {
        let unreadable = || format!("{} cannot be read", package.display());
        let path = std::fs::canonicalize(package).with_context(unreadable)?;
        if std::fs::metadata(&path).with_context(unreadable)?.is_dir() {
            return Ok(Source::Directory(path));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let unpacking = {
            let stop = Arc::clone(&stop);
            tokio::task::spawn_blocking(move || archive::unpack(&path, &stop))
        };
        let mut unpacking = std::pin::pin!(unpacking);
        tokio::select! {
            unpacked = &mut unpacking => Ok(Source::Archive(unpacked??)),
            _ = tokio::signal::ctrl_c() => {
                stop.store(true, Ordering::Relaxed);
                // It removes what it wrote.
                drop(unpacking.await);
                bail!("stopped before anything was sent");
            }
        }
    }
}

async fn push_package(args: PushArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let source = Source::open(&args.package).await?;
    let directory = source.directory().to_owned();
    // A task of its own: reading keeps a thread busy, and a signal is heard all the same.
    let pushing = tokio::spawn(async move { push_source(&args, &directory, started).await });
    tokio::select! {
        pushed = pushing => pushed?,
        _ = tokio::signal::ctrl_c() => bail!("stopped; what arrived is kept: the next push goes on from there"),
    }
}

async fn push_source(args: &PushArgs, directory: &Path, started: Instant) -> anyhow::Result<()> {
    // Here first: a fault of the manifest costs nothing then.
    let manifest = app::read_manifest(directory)
        .map_err(|faults| anyhow::anyhow!("{}/kite.toml: {}", args.package.display(), faults.join("; ")))?;
    if let Some(channel) = &args.channel
        && channel.parse::<api::manifest::AppName>().is_err()
    {
        bail!("`{channel}` is no name of a channel: expected 1 to 40 of a-z, 0-9 and `-`");
    }
    let api = args.server.open()?;
    let path = format!("/v1/apps/{}/uploads", manifest.name);
    let created: CreatedUpload = api.json(Method::POST, &path, None::<&()>).await?;
    let known = api.send(Method::GET, &format!("/v1/uploads/{}/known", created.upload)).await?;
    let (prefixes, _) = known.as_chunks::<8>();
    let prefixes: Vec<u64> = prefixes.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();

    let progress = Arc::new(Progress::default());
    progress.received_bytes.fetch_add(known.len() as u64, Ordering::Relaxed);
    let upload = Arc::new(RestUpload { api, upload: created.upload, channel: args.channel.clone() });
    let over = Arc::new(Notify::new());
    let showing = tokio::spawn(show(Arc::clone(&progress), size_of_files(directory), Arc::clone(&over)));
    let pushed = push(directory, &prefixes, created.base as usize, upload, Arc::clone(&progress)).await;
    over.notify_one();
    showing.await?;
    report(&pushed?, &progress, started.elapsed(), args.json)
}

fn report(pushed: &Pushed, progress: &Progress, took: Duration, json: bool) -> anyhow::Result<()> {
    let release: Release = serde_json::from_str(&pushed.answer)?;
    let sent = progress.sent_bytes.load(Ordering::Relaxed);
    if json {
        let summary = serde_json::json!({
            "app": release.app,
            "release": release.number,
            "content": release.content,
            "channels": release.channels,
            "logical_bytes": pushed.bytes,
            "sent_bytes": sent,
            "received_bytes": progress.received_bytes.load(Ordering::Relaxed),
            "chunks": pushed.chunks,
            "new_chunks": pushed.new_chunks,
            "seconds": took.as_secs_f64(),
        });
        say::out(&summary.to_string());
        return Ok(());
    }
    let points = match &release.channels[..] {
        [] => format!("No channel points to it: kite app promote {} {}", release.app, release.number),
        channels => format!("On {}.", channels.join(", ")),
    };
    say::out(&format!(
        "{} release {}: {} files, {}; {} sent in {:.1} s. {points}",
        release.app,
        release.number,
        release.files,
        amount(pushed.bytes),
        amount(sent),
        took.as_secs_f64(),
    ));
    Ok(())
}

/// Bytes as a person reads them.
fn amount(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Bytes of all files below, as far as they can be seen: for the progress alone.
fn size_of_files(directory: &Path) -> u64 {
    let mut open = vec![directory.to_owned()];
    let mut bytes = 0;
    while let Some(dir) = open.pop() {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(stat) if stat.is_dir() => open.push(entry.path()),
                Ok(stat) if stat.is_file() => bytes += stat.len(),
                _ => {}
            }
        }
    }
    bytes
}

/// Shows how far it is, in one line of a terminal that is written over, until it is over.
async fn show(progress: Arc<Progress>, total: u64, over: Arc<Notify>) {
    let started = Instant::now();
    if !std::io::stderr().is_terminal() {
        over.notified().await;
        return;
    }
    loop {
        let is_over = tokio::time::timeout(SHOW_PERIOD, over.notified()).await.is_ok();
        let line = if is_over { String::new() } else { progress_line(&progress, total, started.elapsed()) };
        say::progress(&line);
        if is_over {
            return;
        }
    }
}

fn progress_line(progress: &Progress, total: u64, elapsed: Duration) -> String {
    let read = progress.read_bytes.load(Ordering::Relaxed);
    let sent = progress.sent_bytes.load(Ordering::Relaxed);
    let seconds = elapsed.as_secs_f64().max(0.001);
    let rate = read as f64 / seconds;
    // What is new in a changed build is read a second time; then what is left cannot be told by what was read.
    let left = if read < total && rate > 0.0 {
        format!(", {:.0} s left", (total - read) as f64 / rate)
    } else {
        String::new()
    };
    let percent = (read.min(total)).saturating_mul(100).checked_div(total).unwrap_or(100);
    format!("{percent:3} % read at {}/s, {} sent{left}", amount(rate as u64), amount(sent))
}
