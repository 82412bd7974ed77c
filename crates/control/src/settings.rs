//! What the operator sets: where to listen, where things are, and what players may use.
//!
//! Deliberately absent: reading files or the environment; the `kite` program does that.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use api::fleet::STANDARD_CLASS;
use api::id::NodeId;
use api::trace::SpanSink;
use content::StoreSettings;

use crate::database::DatabaseSettings;

/// Everything that the control plane has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Address of the HTTP server. Port 0 takes a free one. There is no TLS here: anything but loopback needs a proxy
    /// that adds it, because browsers lock the pointer and read gamepads on secure pages only.
    pub listen: SocketAddr,
    /// Directory of the embedded database and of the operator's token. Made with mode 0700 when it is missing.
    pub data_dir: PathBuf,
    /// Where the records are.
    pub database: DatabaseSettings,
    /// Packages, or directories of packages.
    pub games: Vec<PathBuf>,
    /// The built web page. Without it the server says at `/` how to build it.
    pub web_dir: Option<PathBuf>,
    /// Where releases and saves are kept.
    pub content: StoreSettings,
    /// How often the content store is collected and compacted; the first time so long after the start, when everybody comes back. What is not
    /// needed stays a day in any case.
    pub keeper_period: Duration,
    /// True when anybody may play. False: sessions are created with the operator's token and by players whom he made.
    pub guests: bool,
    /// Origins of web pages on other servers that may use this one, as browsers write them: `https://example.org`.
    /// Pages of this server always may.
    pub allowed_origins: Vec<String>,
    /// Host names under which this server is reached. `localhost` and IP addresses always are: a page that lets a name
    /// of its own point here (DNS rebinding) has neither.
    pub allowed_hosts: Vec<String>,
    /// True when a proxy in front adds the player's address as the last entry of `X-Forwarded-For`. Danger: without such
    /// a proxy players choose their address and no limit a player holds.
    pub behind_proxy: bool,
    /// Address of the node link: where machines join, and nodes connect. None = the one in the same process is the only one.
    pub nodes: Option<SocketAddr>,
    /// Where the other replicas on the same PostgreSQL database reach this one's HTTP server, as `host:port`. `None`: it is the only one, and a
    /// second one is refused. The way between them is to be the operator's own: what is passed on there is not encrypted.
    pub replica: Option<String>,
    /// Directory of the operator's token, the saves' key and the nodes' authority; that of the data when absent. Replicas have the same.
    pub secrets_dir: Option<PathBuf>,
    /// The node in the same process, when there is one: what ran there ends with the process.
    pub embedded: Option<NodeId>,
    /// Its hardware class.
    pub embedded_class: String,
    /// Where the spans of traces go; `None` = nobody wants to see them.
    pub spans: Option<SpanSink>,
    /// What players may use.
    pub limits: Limits,
}

impl Settings {
    /// The defaults: guests may play, no page of another origin.
    #[must_use]
    pub fn new(listen: SocketAddr, data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        Self {
            listen,
            content: StoreSettings::Local { dir: data_dir.join("content") },
            keeper_period: Duration::from_secs(6 * 3600),
            data_dir,
            database: DatabaseSettings::Embedded,
            games: Vec::new(),
            web_dir: None,
            guests: true,
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            behind_proxy: false,
            nodes: None,
            replica: None,
            secrets_dir: None,
            embedded: None,
            embedded_class: STANDARD_CLASS.to_owned(),
            spans: None,
            limits: Limits::default(),
        }
    }
}

/// What players may use, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions of one player at once, and of one address: players come for nothing, so an address with many of them has
    /// no more places. A home or an office shares one address; more lets one of them take every place.
    pub sessions_per_player: u32,
    /// Sessions that one address may create a minute, in the long run; players, too.
    pub creations_per_minute: u32,
    /// Sessions, and players, that it may create at once after a pause.
    pub creation_burst: u32,
    /// Offers that one session may send a minute. A client that reconnects in a loop sends about ten.
    pub offers_per_minute: u32,
    /// Longest session, from when it has its place.
    pub session_length: Duration,
    /// Sessions that may wait for a place. More only makes hopeless waits.
    pub queue_length: u32,
    /// How long a session waits for a place at most.
    pub patience: Duration,
    /// How long a place that was waited for is kept for its player. Shorter loses those who look away, longer keeps others waiting.
    pub offer: Duration,
    /// How long a ready session waits for its player.
    pub connect_timeout: Duration,
    /// Bytes of one version of a save.
    pub save_bytes: u64,
    /// Files of one version of a save.
    pub save_files: u64,
    /// How long a session waits for a lost player.
    pub reconnect_grace: Duration,
    /// How long a session that was never played outlives its last link. A page that reloads needs a second or two;
    /// longer holds the place of a player who closed the page.
    pub link_grace: Duration,
    /// How long a session's token is good. Shorter than the session: its player cannot come back to the end.
    pub token_lifetime: Duration,
    /// How long the end of a session of nobody can be read. Longer only costs disk space.
    pub history: Duration,
    /// How long a player's plays are kept, and the player himself after he was last seen. Shorter forgets one who comes
    /// back once a year; longer keeps what nobody asks for any more.
    pub plays: Duration,
    /// How long it can be read who had which command done, from its end. Shorter forgets before anybody asks; longer costs disk space.
    pub commands: Duration,
    /// How long a stop of the service waits for the sessions to end.
    pub shutdown_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions_per_player: 4,
            creations_per_minute: 30,
            creation_burst: 10,
            offers_per_minute: 30,
            session_length: Duration::from_secs(8 * 3600),
            queue_length: 10_000,
            patience: Duration::from_secs(2 * 3600),
            offer: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(60),
            save_bytes: content::saves::Limits::DEFAULT_BYTES,
            save_files: content::saves::Limits::DEFAULT_FILES,
            reconnect_grace: Duration::from_secs(60),
            link_grace: Duration::from_secs(20),
            token_lifetime: Duration::from_secs(11 * 3600),
            history: Duration::from_secs(7 * 24 * 3600),
            plays: Duration::from_secs(400 * 24 * 3600),
            commands: Duration::from_secs(90 * 24 * 3600),
            shutdown_wait: Duration::from_secs(10),
        }
    }
}
