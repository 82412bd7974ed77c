//! The configuration file of `kite up`: TOML, unknown keys refused, every field optional.
//!
//! `docs/configuration.md` is its manual. The command line and the environment win over the file, the file over the defaults. What is said of a file
//! that cannot be used quotes no address: one may hold a password.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use api::fleet::is_place_name;
use api::streamer::EncoderChoice;
use control::{DatabaseSettings, DatabaseUrl};
use serde::Deserialize;

use crate::telemetry::{Listen, Telemetry};

/// Longest file in bytes. More is not a configuration.
const MAX_BYTES: u64 = 256 * 1024;

/// The database's address, over the file's. No option of the command line: those can be read by everybody on the machine.
const DATABASE_VARIABLE: &str = "KITE_DATABASE_URL";

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Address and port of pages and API.
    pub(crate) listen: Option<SocketAddr>,
    /// Database, tokens, homes, logs.
    pub(crate) data: Option<PathBuf>,
    /// Packages, or directories of packages.
    pub(crate) games: Option<Vec<PathBuf>>,
    /// The built web pages.
    pub(crate) web: Option<PathBuf>,
    /// The hardware class of the machine of `kite up`; a node of a fleet has its token's.
    pub(crate) hardware_class: Option<String>,
    pub(crate) network: Network,
    pub(crate) capacity: Capacity,
    pub(crate) stream: Stream,
    pub(crate) access: Access,
    pub(crate) limits: Limits,
    pub(crate) database: DatabaseTable,
    pub(crate) store: StoreTable,
    pub(crate) volume: VolumeTable,
    pub(crate) fleet: Fleet,
    pub(crate) metrics: MetricsTable,
    pub(crate) traces: TracesTable,
}

/// Where Prometheus fetches metrics.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MetricsTable {
    /// Not told: nowhere.
    pub(crate) listen: Option<SocketAddr>,
    /// A file with the token that has to be sent. Needed for all addresses but loopback: metrics tell how much is played, and by which tenants.
    pub(crate) token_file: Option<PathBuf>,
}

/// Where spans of traces go.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TracesTable {
    /// Base address of an OpenTelemetry collector's OTLP over HTTP. Not told: none is exported.
    pub(crate) endpoint: Option<String>,
}

/// How the machines of a fleet find each other.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fleet {
    /// Where the control plane listens for nodes.
    pub(crate) listen: Option<SocketAddr>,
    /// Where nodes find it.
    pub(crate) control: Vec<String>,
    /// Where other replicas reach this one's HTTP server.
    pub(crate) replica: Option<String>,
    /// The directory of what replicas have in common.
    pub(crate) secrets: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Network {
    pub(crate) bind: Option<IpAddr>,
    pub(crate) advertise: Option<Vec<IpAddr>>,
    pub(crate) advertise_port: Option<u16>,
    pub(crate) ports: Option<PortRange>,
    /// Whether players' clients can measure the way to the node.
    pub(crate) echo: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Capacity {
    pub(crate) sessions: Option<u32>,
    pub(crate) megapixels_per_second: Option<u32>,
    /// Processors for games and their streamers.
    pub(crate) cpus: Option<f32>,
    /// How often each of them is sold.
    pub(crate) cpu_overcommit: Option<f32>,
    /// Memory for games and their streamers.
    pub(crate) memory_mb: Option<u32>,
    /// What may go out to players; 0 = not limited.
    pub(crate) egress_kbps: Option<u32>,
    pub(crate) min_free_disk_mb: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Stream {
    pub(crate) encoder: Option<EncoderChoice>,
    pub(crate) audio: Option<bool>,
    pub(crate) min_kbps: Option<u32>,
    pub(crate) start_kbps: Option<u32>,
    pub(crate) max_kbps: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Access {
    pub(crate) guests: Option<bool>,
    pub(crate) origins: Vec<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) behind_proxy: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    pub(crate) sessions_per_player: Option<u32>,
    pub(crate) creations_per_minute: Option<u32>,
    pub(crate) creation_burst: Option<u32>,
    pub(crate) offers_per_minute: Option<u32>,
    pub(crate) session_length_s: Option<u32>,
    pub(crate) queue_length: Option<u32>,
    pub(crate) queue_patience_s: Option<u32>,
    pub(crate) offer_s: Option<u32>,
    pub(crate) connect_timeout_s: Option<u32>,
    pub(crate) reconnect_grace_s: Option<u32>,
    pub(crate) link_grace_s: Option<u32>,
    pub(crate) history_s: Option<u32>,
    pub(crate) plays_s: Option<u32>,
    pub(crate) commands_s: Option<u32>,
    pub(crate) save_mb: Option<u32>,
    pub(crate) save_files: Option<u32>,
}

/// Where the records are kept: in the data directory, or at PostgreSQL.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DatabaseTable {
    pub(crate) url: Option<Secret>,
    /// A file that holds it, so that a password stands in no configuration.
    pub(crate) url_file: Option<PathBuf>,
}

/// What is never shown.
#[derive(Clone, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Where releases and saves are kept: a directory, or a bucket.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StoreTable {
    pub(crate) dir: Option<PathBuf>,
    pub(crate) s3: Option<S3Table>,
}

/// A bucket of an S3-compatible server.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct S3Table {
    pub(crate) bucket: String,
    #[serde(default)]
    pub(crate) endpoint: Option<String>,
    #[serde(default)]
    pub(crate) prefix: Option<String>,
    #[serde(default)]
    pub(crate) region: Option<String>,
    pub(crate) access_key_id: String,
    /// A file, so that the secret stands in no configuration.
    pub(crate) secret_access_key_file: PathBuf,
}

/// The site's copies of releases.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct VolumeTable {
    pub(crate) dir: Option<PathBuf>,
    pub(crate) xfs_gb: Option<u32>,
    pub(crate) limit_mb: Option<u64>,
    pub(crate) fetch_kbps: Option<u64>,
    pub(crate) parallel: Option<u8>,
    pub(crate) verify_days: Option<u32>,
    pub(crate) verify_kbps: Option<u64>,
}

/// Ports, first and last inclusive, written `50000-50199`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(crate) struct PortRange {
    pub(crate) min: u16,
    pub(crate) max: u16,
}

impl std::str::FromStr for PortRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (min, max) = text.split_once('-')?;
            let (min, max) = (min.trim().parse().ok()?, max.trim().parse().ok()?);
            (min >= 1024 && min <= max).then_some(Self { min, max })
        };
        parse().ok_or_else(|| format!("`{text}` is no port range: write FIRST-LAST from 1024, for example 50000-50199"))
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Config {
    /// Reads a file; relative paths in it are relative to it.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let size = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
        if size > MAX_BYTES {
            bail!("{} has {size} bytes: that is no configuration", path.display());
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut config = Self::parse(&text).with_context(|| format!("{} is not usable", path.display()))?;
        let base = path.parent().unwrap_or(Path::new("."));
        let secret = config.store.s3.as_mut().map(|s3| &mut s3.secret_access_key_file);
        let paths = config.games.iter_mut().flatten().chain(&mut config.data).chain(&mut config.web);
        let paths = paths.chain(&mut config.store.dir).chain(&mut config.volume.dir).chain(secret);
        let paths = paths.chain(&mut config.database.url_file).chain(&mut config.metrics.token_file);
        for entry in paths {
            *entry = base.join(&*entry);
        }
        Ok(config)
    }

    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Self = toml::from_str(text).map_err(|error| without_addresses(error, text))?;
        config.check()?;
        Ok(config)
    }

    /// What TOML cannot say.
    fn check(&self) -> anyhow::Result<()> {
        if self.network.advertise.as_ref().is_some_and(Vec::is_empty) {
            bail!("network.advertise is empty: name an address, or remove the line");
        }
        if self.hardware_class.as_ref().is_some_and(|class| !is_place_name(class)) {
            bail!("hardware_class is not 1 to 40 of a-z, 0-9 and `-`");
        }
        if self.capacity.sessions == Some(0) || self.capacity.megapixels_per_second == Some(0) {
            bail!("capacity of 0: nobody could play; remove the line or give at least 1");
        }
        if self.capacity.cpus.is_some_and(|cpus| !(0.1..=4096.0).contains(&cpus)) {
            bail!("capacity.cpus is not within 0.1 to 4096");
        }
        if self.capacity.cpu_overcommit.is_some_and(|times| !(0.1..=100.0).contains(&times)) {
            bail!("capacity.cpu_overcommit is not within 0.1 to 100: 1 sells each processor once");
        }
        if self.capacity.memory_mb.is_some_and(|mb| mb < 64) {
            bail!("capacity.memory_mb is below 64: nobody could play; remove the line or give more");
        }
        let bitrates = [self.stream.min_kbps, self.stream.start_kbps, self.stream.max_kbps];
        if bitrates.iter().flatten().any(|kbps| !(50..=1_000_000).contains(kbps)) {
            bail!("a bitrate of [stream] is not within 50 to 1000000 kbps");
        }
        let limits = &self.limits;
        let seconds = [
            limits.session_length_s,
            limits.connect_timeout_s,
            limits.reconnect_grace_s,
            limits.queue_patience_s,
            limits.offer_s,
        ];
        if seconds.into_iter().flatten().any(|s| s == 0) || limits.session_length_s.is_some_and(|s| s > 604_800) {
            bail!("a time of [limits] is 0, or session_length_s is more than a week (604800)");
        }
        let counts = [limits.sessions_per_player, limits.creations_per_minute, limits.creation_burst];
        if counts.into_iter().flatten().any(|n| n == 0) || limits.offers_per_minute == Some(0) {
            bail!("a number of [limits] is 0: nobody could play; remove the line or give at least 1");
        }
        if self.database.url.is_some() && self.database.url_file.is_some() {
            bail!("[database] names both an address and a file with one: remove one of them");
        }
        if let Some(Secret(url)) = &self.database.url {
            url.parse::<DatabaseUrl>().context("database.url")?;
        }
        if self.store.dir.is_some() && self.store.s3.is_some() {
            bail!("[store] names both a directory and a bucket: remove one of them");
        }
        if self.volume.dir.is_some() && self.volume.xfs_gb.is_some() {
            bail!("[volume] names both a directory and the size of a file for XFS: remove one of them");
        }
        if self.volume.xfs_gb == Some(0) {
            bail!("volume.xfs_gb is 0: give at least 1, or remove the line");
        }
        let table = &self.volume;
        let rates = [table.fetch_kbps, table.verify_kbps, table.parallel.map(u64::from)];
        if rates.contains(&Some(0)) || self.limits.save_mb == Some(0) {
            bail!("a number of [volume], or limits.save_mb, is 0: nothing could be fetched, verified or saved");
        }
        if self.metrics.token_file.is_none() && self.metrics.listen.is_some_and(|at| !at.ip().is_loopback()) {
            bail!("metrics.listen is reached by other machines: name a file with a token, metrics.token_file");
        }
        let endpoint = self.traces.endpoint.as_deref();
        if endpoint.is_some_and(|at| !at.starts_with("http://") && !at.starts_with("https://")) {
            bail!("traces.endpoint is no address of a collector: write http://127.0.0.1:4318");
        }
        if let Some(origin) = self.access.origins.iter().find(|origin| !is_origin(origin)) {
            bail!(
                "access.origins: `{origin}` is no origin: write it as browsers do, https://example.org without a path"
            );
        }
        Ok(())
    }

    /// Where the records are kept: the environment over the file.
    pub(crate) fn database(&self) -> anyhow::Result<DatabaseSettings> {
        match std::env::var(DATABASE_VARIABLE) {
            Ok(url) => Ok(DatabaseSettings::Postgres(url.parse().context(DATABASE_VARIABLE)?)),
            Err(std::env::VarError::NotPresent) => self.database_of_file(),
            Err(std::env::VarError::NotUnicode(_)) => bail!("{DATABASE_VARIABLE} is not UTF-8"),
        }
    }

    fn database_of_file(&self) -> anyhow::Result<DatabaseSettings> {
        let url = match (&self.database.url, &self.database.url_file) {
            (Some(Secret(url)), _) => url.parse().context("database.url")?,
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                text.trim().parse().with_context(|| format!("{} is not usable", path.display()))?
            }
            (None, None) => return Ok(DatabaseSettings::Embedded),
        };
        Ok(DatabaseSettings::Postgres(url))
    }

    /// What is told of the program to those who watch it.
    pub(crate) fn telemetry(&self) -> anyhow::Result<Telemetry> {
        let token = self.metrics.token_file.as_ref().map(|path| {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let token = text.trim().to_owned();
            if token.is_empty() {
                bail!("{} is empty: it has to hold a token", path.display());
            }
            Ok(token)
        });
        let token = token.transpose()?;
        Ok(Telemetry {
            listen: self.metrics.listen.map(|address| Listen { address, token }),
            traces: traces_endpoint(self.traces.endpoint.as_deref(), |name| std::env::var(name).ok()),
        })
    }

    /// Where releases and saves are kept.
    pub(crate) fn store(&self, data: &Path) -> anyhow::Result<content::StoreSettings> {
        let Some(s3) = &self.store.s3 else {
            let dir = self.store.dir.clone().unwrap_or_else(|| data.join("content"));
            return Ok(content::StoreSettings::Local { dir });
        };
        let path = &s3.secret_access_key_file;
        let secret = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(content::StoreSettings::S3 {
            endpoint: s3.endpoint.clone(),
            bucket: s3.bucket.clone(),
            prefix: s3.prefix.clone().unwrap_or_default(),
            region: s3.region.clone().unwrap_or_else(|| "us-east-1".to_owned()),
            access_key_id: s3.access_key_id.clone(),
            secret_access_key: secret.trim().to_owned(),
        })
    }

    /// The site's volume.
    pub(crate) fn volume(&self, data: &Path) -> content::VolumeSettings {
        let table = &self.volume;
        let mut volume = content::VolumeSettings::new(table.dir.clone().unwrap_or_else(|| data.join("volume")));
        volume.limit_bytes = table.limit_mb.map(|mb| mb << 20);
        volume.rate = kbps(table.fetch_kbps);
        volume.parallel = table.parallel.map_or(volume.parallel, usize::from);
        if let Some(days) = table.verify_days {
            let period = std::time::Duration::from_hours(u64::from(days) * 24);
            volume.scrub = volume.scrub.filter(|_| days > 0).map(|scrub| content::Scrub { period, ..scrub });
        }
        if let (Some(scrub), Some(rate)) = (&mut volume.scrub, kbps(table.verify_kbps)) {
            scrub.rate = rate;
        }
        volume
    }

    /// The control plane's limits: the defaults with what the file says.
    pub(crate) fn control_limits(&self) -> control::Limits {
        let mut limits = control::Limits::default();
        let file = &self.limits;
        let numbers = [
            (&mut limits.sessions_per_player, file.sessions_per_player),
            (&mut limits.creations_per_minute, file.creations_per_minute),
            (&mut limits.creation_burst, file.creation_burst),
            (&mut limits.offers_per_minute, file.offers_per_minute),
            (&mut limits.queue_length, file.queue_length),
        ];
        for (target, value) in numbers {
            *target = value.unwrap_or(*target);
        }
        let times = [
            (&mut limits.session_length, file.session_length_s),
            (&mut limits.patience, file.queue_patience_s),
            (&mut limits.offer, file.offer_s),
            (&mut limits.connect_timeout, file.connect_timeout_s),
            (&mut limits.reconnect_grace, file.reconnect_grace_s),
            (&mut limits.link_grace, file.link_grace_s),
            (&mut limits.history, file.history_s),
            (&mut limits.plays, file.plays_s),
            (&mut limits.commands, file.commands_s),
        ];
        for (target, value) in times {
            *target = value.map_or(*target, |seconds| Duration::from_secs(u64::from(seconds)));
        }
        limits.save_bytes = file.save_mb.map_or(limits.save_bytes, |mb| u64::from(mb) << 20);
        limits.save_files = file.save_files.map_or(limits.save_files, u64::from);
        // A player can come back to the end of the session, and read how it ended.
        limits.token_lifetime = limits.patience + limits.session_length + Duration::from_secs(3600);
        limits
    }
}

/// Address of a collector's spans: the standard's variables over the file.
fn traces_endpoint(file: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let told = |name| variable(name).filter(|value| !value.is_empty());
    let of_base = |base: &str| format!("{}/v1/traces", base.trim_end_matches('/'));
    told("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        .or_else(|| told("OTEL_EXPORTER_OTLP_ENDPOINT").map(|base| of_base(&base)))
        .or_else(|| file.map(of_base))
}

/// What TOML says, which quotes the line: not where an address stands in it.
fn without_addresses(error: toml::de::Error, text: &str) -> anyhow::Error {
    let shown = error.to_string();
    if !shown.contains("://") {
        return error.into();
    }
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.lines().count().max(1);
    anyhow::anyhow!(
        "line {line} cannot be read: an address is a text in quotes, `url` of [database], and nothing else stands there"
    )
}

/// Kilobits a second, as they stand in the configuration.
fn kbps(number: Option<u64>) -> Option<content::Rate> {
    number.and_then(|kbps| std::num::NonZero::new(kbps.saturating_mul(125))).map(content::Rate)
}

fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(), &str>) {
        match (Config::parse(text), expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(expected)) => {
                let error = format!("{error:#}");
                assert!(error.contains(expected), "`{error}` has no `{expected}`");
            }
            (result, expected) => panic!("{text}: {result:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn files_are_checked() {
        check("", Ok(()));
        check(
            "listen = \"0.0.0.0:80\"\n[network]\nports = \"2000-2001\"\nadvertise = [\"192.0.2.1\", \"2001:db8::1\"]",
            Ok(()),
        );
        check("hardware_class = \"gpu-large\"", Ok(()));
        check("hardware_class = \"GPU\"", Err("hardware_class"));
        check("lisen = \"0.0.0.0:80\"", Err("unknown field `lisen`"));
        check("[network]\nports = \"9-8\"", Err("no port range"));
        check("[network]\nports = \"80-90\"", Err("no port range"));
        check("[network]\nadvertise = []", Err("is empty"));
        check("[capacity]\nsessions = 0", Err("nobody could play"));
        check("[capacity]\ncpus = 0", Err("capacity.cpus"));
        check("[capacity]\ncpus = nan", Err("capacity.cpus"));
        check("[capacity]\ncpus = 7\ncpu_overcommit = 1.5\nmemory_mb = 64\negress_kbps = 0", Ok(()));
        check("[capacity]\ncpu_overcommit = 0.0", Err("cpu_overcommit"));
        check("[capacity]\nmemory_mb = 63", Err("nobody could play"));
        check("[limits]\nsession_length_s = 0", Err("is 0"));
        check("[limits]\nsession_length_s = 604801", Err("more than a week"));
        check("[stream]\nencoder = \"magic\"", Err("unknown variant `magic`"));
        check("[stream]\nmin_kbps = 1", Err("bitrate"));
        check(
            "[store]\ndir = \"a\"\n[store.s3]\nbucket = \"b\"\naccess_key_id = \"i\"\nsecret_access_key_file = \"s\"",
            Err("both"),
        );
        check("[store.s3]\nbucket = \"b\"", Err("missing field"));
        check("[database]\nurl = \"postgres://kite@db.example/kite\"", Ok(()));
        check("[database]\nurl = \"postgres://kite@db.example/kite\"\nurl_file = \"f\"", Err("both"));
        check("[database]\nurl = \"mysql://kite@db.example/kite\"", Err("does not begin with postgres://"));
        check("[database]\nuri = \"x\"", Err("unknown field `uri`"));
        check("[metrics]\nlisten = \"127.0.0.1:9464\"", Ok(()));
        check("[metrics]\nlisten = \"[::1]:9464\"", Ok(()));
        check("[metrics]\nlisten = \"0.0.0.0:9464\"", Err("name a file with a token"));
        check("[metrics]\nlisten = \"0.0.0.0:9464\"\ntoken_file = \"t\"", Ok(()));
        check("[traces]\nendpoint = \"collector:4318\"", Err("no address of a collector"));
        check("[volume]\nparallel = 0", Err("nothing could be fetched"));
        check("[volume]\nxfs_gb = 0", Err("at least 1"));
        check("[volume]\nxfs_gb = 5\ndir = \"a\"", Err("both"));
        check("[access]\norigins = [\"https://a.example\"]", Ok(()));
        check("[access]\norigins = [\"https://a.example/page\"]", Err("is no origin"));
    }

    #[test]
    fn no_password_is_shown() {
        let url = "postgres://kite:hunter2@db.example/kite";
        let config = Config::parse(&format!("[database]\nurl = \"{url}\"")).unwrap();
        let shown = format!("{config:?} {:?}", config.database_of_file().unwrap());
        assert!(shown.contains("`kite` at db.example") && !shown.contains("hunter2"), "{shown}");
        for wrong in [
            format!("[database]\nurl = \"{url}"),
            format!("[database]\nurl = {url}"),
            format!("[database]\nurl = [\"{url}\"]"),
            format!("database = \"{url}\""),
            format!("\"{url}\" = 1"),
            format!("[database]\nurl = \"x{url}\""),
            format!("[database]\nurl = \"{url}?password=hunter2\""),
        ] {
            let shown = format!("{:#}", Config::parse(&wrong).expect_err(&wrong));
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn an_address_may_lie_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "[database]\nurl_file = \"url\"").unwrap();
        let config = Config::read(&path).unwrap();
        assert!(format!("{:#}", config.database_of_file().unwrap_err()).contains("cannot read"));
        std::fs::write(dir.path().join("url"), "postgres://kite:secret@db.example/kite\n").unwrap();
        assert!(matches!(config.database_of_file().unwrap(), DatabaseSettings::Postgres(_)));
        std::fs::write(dir.path().join("url"), "kite:secret@db.example\n").unwrap();
        let shown = format!("{:#}", config.database_of_file().unwrap_err());
        assert!(shown.contains("postgres://") && !shown.contains("secret"), "{shown}");
        assert_eq!(Config::default().database_of_file().unwrap(), DatabaseSettings::Embedded);
    }

    #[test]
    fn variables_of_the_standard_win_over_the_file() {
        let check = |file: Option<&str>, all: Option<&str>, traces: Option<&str>, expected: Option<&str>| {
            let told = traces_endpoint(file, |name| match name {
                "OTEL_EXPORTER_OTLP_ENDPOINT" => all.map(str::to_owned),
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" => traces.map(str::to_owned),
                _ => None,
            });
            assert_eq!(told.as_deref(), expected);
        };
        check(None, None, None, None);
        check(None, Some(""), None, None);
        check(Some("http://a:4318/"), None, None, Some("http://a:4318/v1/traces"));
        check(Some("http://a:4318"), Some("http://b:4318"), None, Some("http://b:4318/v1/traces"));
        check(Some("http://a:4318"), Some("http://b:4318"), Some("http://c/spans"), Some("http://c/spans"));
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "data = \"state\"\ngames = [\"/abs\", \"rel\"]").unwrap();
        let config = Config::read(&path).unwrap();
        assert_eq!(config.data.unwrap(), dir.path().join("state"));
        assert_eq!(config.games.unwrap(), [PathBuf::from("/abs"), dir.path().join("rel")]);
    }

    #[test]
    fn the_manuals_example_is_a_good_file_and_names_every_field() {
        let manual = include_str!("../../../docs/configuration.md");
        let examples: Vec<&str> =
            manual.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(!examples.is_empty());
        for example in &examples {
            check(example, Ok(()));
        }
        let config = format!("{:?}", Config::parse(examples[0]).unwrap());
        let left_out = config.replacen("s3: None", "", 1).replacen("xfs_gb: None", "", 1);
        let left_out = left_out.replacen("url_file: None", "", 1);
        assert!(!left_out.contains("None"), "the first example leaves a field out: {config}");
    }

    #[test]
    fn limits_of_the_file_win() {
        let limits = Config::parse("[limits]\nsession_length_s = 60\nsessions_per_player = 9\nplays_s = 864000")
            .unwrap()
            .control_limits();
        assert_eq!(limits.session_length, Duration::from_secs(60));
        assert_eq!(limits.sessions_per_player, 9);
        assert_eq!(limits.plays, Duration::from_secs(864_000));
        assert!(limits.token_lifetime > limits.session_length);
        assert_eq!(limits.link_grace, control::Limits::default().link_grace);
    }
}
