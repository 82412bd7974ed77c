//! `kite up`: control plane and node in one process, until a signal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use api::id::NodeId;
use api::streamer::{EncoderChoice, NetworkSettings};
use clap::{Args, ValueEnum};
use node::{Agent, Image, NodeSettings};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use uuid::Uuid;

use crate::config::{Config, PortRange};
use crate::{app, install, say};

/// Name of the configuration file in the data directory.
const CONFIG_FILE: &str = "config.toml";

/// Exit status after a second signal, as shells write "ended by SIGINT".
const FORCED: u8 = 130;

#[derive(Args, Debug, Default)]
pub(crate) struct UpArgs {
    /// Configuration file; `config.toml` in the data directory when it is there. docs/configuration.md lists its fields.
    #[arg(long, env = "KITE_CONFIG")]
    config: Option<PathBuf>,
    /// Address and port of pages and API [default: 127.0.0.1:8080].
    #[arg(long, env = "KITE_LISTEN")]
    listen: Option<SocketAddr>,
    /// Directory of the database and everything else that is kept [default: /var/lib/kite, or ~/.local/share/kite].
    #[arg(long, env = "KITE_DATA")]
    data: Option<PathBuf>,
    /// A package, or a directory of packages; may be given again [default: the games that come with Kite].
    #[arg(long)]
    games: Vec<PathBuf>,
    /// Directory of the built web pages.
    #[arg(long)]
    web: Option<PathBuf>,
    /// Address that players are told for media; may be given again [default: this machine's].
    #[arg(long)]
    advertise: Vec<IpAddr>,
    /// UDP and TCP ports for media, one a session [default: 50000-50199].
    #[arg(long)]
    ports: Option<PortRange>,
    /// Sessions at once; more than the default needs a GPU or light games [default: two a core].
    #[arg(long)]
    sessions: Option<u32>,
    /// Encoder to use [default: auto].
    #[arg(long, value_enum)]
    encoder: Option<EncoderName>,
    /// The streamer's program.
    #[arg(long, hide = true)]
    streamer: Option<PathBuf>,
    /// Directory of sockets.
    #[arg(long, hide = true)]
    runtime: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EncoderName {
    Auto,
    Software,
    Nvenc,
    Vaapi,
    Qsv,
}

impl From<EncoderName> for EncoderChoice {
    fn from(name: EncoderName) -> Self {
        match name {
            EncoderName::Auto => Self::Auto,
            EncoderName::Software => Self::Software,
            EncoderName::Nvenc => Self::Nvenc,
            EncoderName::Vaapi => Self::Vaapi,
            EncoderName::Qsv => Self::Qsv,
        }
    }
}

/// Everything that the two halves are told.
#[derive(Debug)]
struct Plan {
    control: control::Settings,
    node: NodeSettings,
    /// Bytes of the image that the node works in; `None` where it works in the data directory.
    image_bytes: Option<u64>,
    /// Packages that are left out, and why.
    left_out: Vec<String>,
}

pub(crate) fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let config = read_config(&args)?;
    let plan = plan(args, &config)?;
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(serve(plan))?;
    // Blocking tasks that hang are not waited for.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    Ok(code)
}

fn read_config(args: &UpArgs) -> anyhow::Result<Config> {
    if let Some(path) = &args.config {
        return Config::read(path);
    }
    let path = args.data.clone().unwrap_or_else(install::data_dir).join(CONFIG_FILE);
    if path.is_file() { Config::read(&path) } else { Ok(Config::default()) }
}

/// The command line over the file over the defaults.
fn plan(args: UpArgs, config: &Config) -> anyhow::Result<Plan> {
    let listen = args.listen.or(config.listen).unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
    let data_dir = args.data.or_else(|| config.data.clone()).unwrap_or_else(install::data_dir);
    let data_dir = std::path::absolute(&data_dir).with_context(|| format!("{} is no path", data_dir.display()))?;

    let games = if args.games.is_empty() { config.games.clone() } else { Some(args.games) };
    let games = games.unwrap_or_else(|| install::games_dir().into_iter().collect());
    let (games, left_out) = playable(&games)?;

    let mut control = control::Settings::new(listen, &data_dir);
    control.games = games;
    control.web_dir = args.web.or_else(|| config.web.clone()).or_else(install::web_dir);
    control.guests = config.access.guests.unwrap_or(control.guests);
    control.allowed_origins.clone_from(&config.access.origins);
    control.allowed_hosts.clone_from(&config.access.hosts);
    control.behind_proxy = config.access.behind_proxy;
    control.limits = config.control_limits();
    control.database = config.database()?;
    control.content = config.store(&data_dir)?;

    let advertise = if args.advertise.is_empty() { config.network.advertise.clone() } else { Some(args.advertise) };
    let advertise = advertise.unwrap_or_else(|| own_addresses(listen.ip()));
    let ports = args.ports.or(config.network.ports).unwrap_or(PortRange { min: 50_000, max: 50_199 });
    let network = NetworkSettings {
        bind: config.network.bind.unwrap_or_else(|| bind_address(&advertise)),
        advertise,
        advertise_port: config.network.advertise_port,
        port_min: ports.min,
        port_max: ports.max,
    };
    let streamer = args.streamer.unwrap_or_else(|| install::program("kite-streamer"));
    let (store, volume) = (control.content.clone(), config.volume(&data_dir));
    let mut node = NodeSettings::new(NodeId::from_uuid(Uuid::now_v7()), data_dir, streamer, network);
    node.store = store;
    node.volume = volume;
    let image_bytes = config.volume.xfs_gb.map(|gb| u64::from(gb) << 30);
    if image_bytes.is_some() {
        node.work_dir = node.data_dir.join("site");
        node.volume.dir = node.work_dir.join("volume");
    }
    if let Some(runtime) = args.runtime {
        node.runtime_dir = runtime;
    }
    let file = &config.capacity;
    node.capacity.sessions = args.sessions.or(file.sessions).unwrap_or(node.capacity.sessions).max(1);
    node.capacity.pixels_per_second = match (file.megapixels_per_second, args.sessions) {
        (Some(megapixels), _) => u64::from(megapixels) * 1_000_000,
        // Who counts places on the command line means just these.
        (None, Some(_)) => u64::MAX,
        (None, None) => node.capacity.pixels_per_second,
    };
    node.min_free_disk_mb = file.min_free_disk_mb.unwrap_or(node.min_free_disk_mb);
    node.encoder = args.encoder.map(EncoderChoice::from).or(config.stream.encoder).unwrap_or(node.encoder);
    node.audio = config.stream.audio.unwrap_or(node.audio);
    let bitrate = &mut node.bitrate;
    bitrate.min_kbps = config.stream.min_kbps.unwrap_or(bitrate.min_kbps);
    bitrate.max_kbps = config.stream.max_kbps.unwrap_or(bitrate.max_kbps);
    bitrate.start_kbps = config.stream.start_kbps.unwrap_or(bitrate.start_kbps);
    if bitrate.min_kbps > bitrate.max_kbps {
        bail!("stream.min_kbps ({}) is above stream.max_kbps ({})", bitrate.min_kbps, bitrate.max_kbps);
    }
    bitrate.start_kbps = bitrate.start_kbps.clamp(bitrate.min_kbps, bitrate.max_kbps);
    Ok(Plan { control, node, image_bytes, left_out })
}

/// The packages that can be played here, and why others cannot.
fn playable(places: &[PathBuf]) -> anyhow::Result<(Vec<PathBuf>, Vec<String>)> {
    let (mut good, mut left_out) = (Vec::new(), Vec::new());
    for dir in app::packages(places)? {
        let checked = app::check(&dir);
        if checked.faults.is_empty() {
            good.push(dir);
        } else {
            let name = dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy().into_owned();
            left_out.push(format!("{name}: {}", checked.faults.join("; ")));
        }
    }
    Ok((good, left_out))
}

/// What players are told when nobody says it: loopback for a server on loopback, else the address that is listened on, else
/// those by which this machine reaches others.
fn own_addresses(listen: IpAddr) -> Vec<IpAddr> {
    if !listen.is_unspecified() {
        return vec![listen];
    }
    // Connecting a UDP socket sends nothing; it only asks the kernel for the route. The addresses are documentation's.
    let probes: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    let routed = probes.into_iter().filter_map(|(from, to)| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    let mut addresses: Vec<IpAddr> = routed.filter(|address| !address.is_unspecified()).collect();
    addresses.push(Ipv4Addr::LOCALHOST.into());
    addresses.dedup();
    addresses
}

fn bind_address(advertise: &[IpAddr]) -> IpAddr {
    if advertise.iter().all(|address| *address == IpAddr::V4(Ipv4Addr::LOCALHOST)) {
        Ipv4Addr::LOCALHOST.into()
    } else if advertise.iter().any(IpAddr::is_ipv6) {
        // Takes IPv4 too on Linux.
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

/// Every session costs the agent some descriptors; the usual limit of 1024 is for programs that use `select`.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

/// SIGINT, SIGTERM, SIGHUP.
struct Signals {
    all: [Signal; 3],
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [int, term, hup] = kinds.map(signal);
        Ok(Self { all: [int?, term?, hup?] })
    }

    async fn next(&mut self) {
        let [int, term, hup] = &mut self.all;
        tokio::select! { _ = int.recv() => {}, _ = term.recv() => {}, _ = hup.recv() => {} }
    }
}

async fn serve(plan: Plan) -> anyhow::Result<ExitCode> {
    let Plan { control, node, image_bytes, left_out } = plan;
    // From the first moment: a signal during the start stops as well.
    let mut signals = Signals::new().context("cannot wait for signals")?;
    let places = node.capacity.sessions;
    let for_sweep = node.clone();
    let (link, node_end) = api::node::in_process();
    let (stop, stopped) = watch::channel(false);
    let packages = control.games.len();
    let (data_dir, web) = (control.data_dir.clone(), control.web_dir.clone());
    // The data directory is made and locked by the control plane first.
    let shutdown = {
        let mut stopped = stopped;
        async move {
            // An error means that `stop` is gone, which is a stop as well.
            let _gone = stopped.wait_for(|stop| *stop).await;
        }
    };
    let running = control::serve(control, link, shutdown).await.map_err(with_causes)?;
    let (image, agent) = match start_node(node, image_bytes, node_end).await {
        Ok(started) => started,
        Err(error) => {
            stop.send_replace(true);
            running.stopped().await;
            return Err(error);
        }
    };
    announce(running.address(), places, packages, &left_out, &data_dir, web.as_deref());

    signals.next().await;
    say::out("Stopping: running games are ended. A second signal does it by force.");
    stop.send_replace(true);
    let graceful = async {
        running.stopped().await;
        agent.stop().await;
        if let Some(Err(error)) = image.map(Image::close) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the image stays mounted; the next start finds it"
            );
        }
    };
    tokio::select! {
        () = graceful => Ok(ExitCode::SUCCESS),
        () = signals.next() => {
            // Sandboxes end with this process; streamers would wait for their players to leave.
            let swept = tokio::task::spawn_blocking(move || node::sweep(&for_sweep)).await;
            tracing::warn!(?swept, "stopped by force");
            Ok(ExitCode::from(FORCED))
        }
    }
}

/// Mounts what the node works in, and starts it.
async fn start_node(
    node: NodeSettings,
    image_bytes: Option<u64>,
    end: api::node::NodeEnd,
) -> anyhow::Result<(Option<Image>, Agent)> {
    let image = match image_bytes {
        None => None,
        Some(bytes) => {
            let (file, at) = (node.data_dir.join("site.xfs"), node.work_dir.clone());
            Some(tokio::task::spawn_blocking(move || Image::open(&file, &at, bytes)).await??)
        }
    };
    Ok((image, Agent::start(node, end).await.map_err(with_causes)?))
}

fn with_causes(error: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
    anyhow::Error::new(error)
}

fn announce(
    address: SocketAddr,
    places: u32,
    packages: usize,
    left_out: &[String],
    data_dir: &std::path::Path,
    web: Option<&std::path::Path>,
) {
    let host = match address.ip() {
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(ip) => format!("[{ip}]"),
        IpAddr::V4(ip) => ip.to_string(),
    };
    let mut lines = vec![
        String::new(),
        format!("  Kite is ready: http://{host}:{}", address.port()),
        String::new(),
        format!("    games   {packages}"),
        format!("    places  {places}"),
        format!("    data    {}", data_dir.display()),
    ];
    if web.is_none() {
        lines.push("    pages   none: the web pages are not built; the API works".to_owned());
    }
    lines.extend(left_out.iter().map(|reason| format!("    left out  {reason}")));
    if !address.ip().is_loopback() {
        lines.push(
            "    note    others reach this address without TLS: put a TLS proxy in front, or browsers".to_owned(),
        );
        lines.push("            will neither lock the pointer nor read gamepads".to_owned());
    }
    lines.push("    stop    Ctrl-C".to_owned());
    lines.push(String::new());
    say::out(&lines.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: UpArgs, config: &str) -> Plan {
        let args = UpArgs { data: Some("/tmp/kite-test".into()), ..args };
        let config = Config::parse(config).unwrap();
        plan(args, &config).unwrap()
    }

    #[test]
    fn a_server_on_loopback_is_loopback_throughout() {
        let plan = check(UpArgs::default(), "");
        assert_eq!(plan.control.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(plan.node.network.bind.to_string(), "127.0.0.1");
        assert_eq!(plan.node.network.advertise, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        assert_eq!((plan.node.network.port_min, plan.node.network.port_max), (50_000, 50_199));
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let args = UpArgs { sessions: Some(9), ports: Some("2000-2002".parse().unwrap()), ..UpArgs::default() };
        let plan = check(args, "listen = \"0.0.0.0:81\"\n[capacity]\nsessions = 2\n[network]\nports = \"3000-3001\"");
        assert_eq!(plan.node.capacity.sessions, 9);
        assert_eq!(plan.node.network.port_min, 2000);
        assert_eq!(plan.control.listen.port(), 81);
        assert!(!plan.node.network.advertise.is_empty());
    }

    #[test]
    fn the_start_bitrate_stays_between_the_others() {
        let plan = check(UpArgs::default(), "[stream]\nmax_kbps = 1000");
        assert_eq!(plan.node.bitrate.start_kbps, 1000);
    }
}
