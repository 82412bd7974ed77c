//! From the command line over the file over the defaults to what control plane and node are told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use api::id::NodeId;
use api::node::Capacity;
use api::streamer::{EncoderChoice, NetworkSettings};
use clap::{Args, ValueEnum};
use node::NodeSettings;
use uuid::Uuid;

use crate::config::{self, Config, PortRange};
use crate::{app, install};

/// Name of the configuration file in the data directory.
const CONFIG_FILE: &str = "config.toml";

/// Where everything is.
#[derive(Args, Debug, Default)]
pub(crate) struct PlaceArgs {
    /// Configuration file; `config.toml` in the data directory when it is there. docs/configuration.md lists its fields.
    #[arg(long, env = "KITE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of the database and everything else that is kept [default: /var/lib/kite, or ~/.local/share/kite].
    #[arg(long, env = "KITE_DATA")]
    pub(crate) data: Option<PathBuf>,
}

impl PlaceArgs {
    pub(crate) fn read_config(&self) -> anyhow::Result<Config> {
        if let Some(path) = &self.config {
            return Config::read(path);
        }
        let path = self.data.clone().unwrap_or_else(install::data_dir).join(CONFIG_FILE);
        if path.is_file() { Config::read(&path) } else { Ok(Config::default()) }
    }

    /// The data directory.
    pub(crate) fn data_dir(&self, config: &Config) -> anyhow::Result<PathBuf> {
        let dir = self.data.clone().or_else(|| config.data.clone()).unwrap_or_else(install::data_dir);
        std::path::absolute(&dir).with_context(|| format!("{} is no path", dir.display()))
    }
}

/// What a control plane is told.
#[derive(Args, Debug, Default)]
pub(crate) struct ControlArgs {
    /// Address and port of pages and API [default: 127.0.0.1:8080].
    #[arg(long, env = "KITE_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,
    /// Address and port where machines join and nodes connect, over mutual TLS [default: none].
    #[arg(long, env = "KITE_NODES")]
    pub(crate) nodes: Option<SocketAddr>,
    /// A package, or a directory of packages; may be given again [default: the games that come with Kite].
    #[arg(long)]
    pub(crate) games: Vec<PathBuf>,
    /// Directory of the built web pages.
    #[arg(long)]
    pub(crate) web: Option<PathBuf>,
}

impl ControlArgs {
    /// The settings, and why packages are left out.
    pub(crate) fn settings(self, config: &Config, data_dir: &Path) -> anyhow::Result<(control::Settings, Vec<String>)> {
        let listen = self.listen.or(config.listen).unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
        let games = if self.games.is_empty() { config.games.clone() } else { Some(self.games) };
        let games = games.unwrap_or_else(|| install::games_dir().into_iter().collect());
        let (games, left_out) = playable(&games)?;
        let mut settings = control::Settings::new(listen, data_dir);
        settings.games = games;
        settings.nodes = self.nodes.or(config.fleet.listen);
        settings.web_dir = self.web.or_else(|| config.web.clone()).or_else(install::web_dir);
        settings.guests = config.access.guests.unwrap_or(settings.guests);
        settings.allowed_origins.clone_from(&config.access.origins);
        settings.allowed_hosts.clone_from(&config.access.hosts);
        settings.behind_proxy = config.access.behind_proxy;
        settings.limits = config.control_limits();
        settings.database = config.database()?;
        settings.content = config.store(data_dir)?;
        Ok((settings, left_out))
    }
}

/// What a node is told.
#[derive(Args, Debug, Default)]
pub(crate) struct NodeArgs {
    /// Address that players are told for media; may be given again [default: this machine's].
    #[arg(long)]
    pub(crate) advertise: Vec<IpAddr>,
    /// UDP and TCP ports for media, one a session [default: 50000-50199].
    #[arg(long)]
    pub(crate) ports: Option<PortRange>,
    /// Sessions at once; more than the default needs a GPU or light games [default: two a core].
    #[arg(long)]
    pub(crate) sessions: Option<u32>,
    /// Encoder to use [default: auto].
    #[arg(long, value_enum)]
    pub(crate) encoder: Option<EncoderName>,
    /// The streamer's program.
    #[arg(long, hide = true)]
    pub(crate) streamer: Option<PathBuf>,
    /// Directory of sockets.
    #[arg(long, hide = true)]
    pub(crate) runtime: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum EncoderName {
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

/// A node, and the image that it works in.
#[derive(Debug)]
pub(crate) struct NodePlan {
    pub(crate) settings: NodeSettings,
    /// Bytes of the image; `None` where it works in the data directory.
    pub(crate) image_bytes: Option<u64>,
}

impl NodeArgs {
    /// The settings of a node of which players hear at `listen`, when nobody says other addresses.
    pub(crate) fn plan(self, config: &Config, data_dir: &Path, listen: IpAddr) -> anyhow::Result<NodePlan> {
        let advertise = if self.advertise.is_empty() { config.network.advertise.clone() } else { Some(self.advertise) };
        let advertise = advertise.unwrap_or_else(|| own_addresses(listen));
        let ports = self.ports.or(config.network.ports).unwrap_or(PortRange { min: 50_000, max: 50_199 });
        let network = NetworkSettings {
            bind: config.network.bind.unwrap_or_else(|| bind_address(&advertise)),
            advertise,
            advertise_port: config.network.advertise_port,
            port_min: ports.min,
            port_max: ports.max,
        };
        let streamer = self.streamer.unwrap_or_else(|| install::program("kite-streamer"));
        // Who it is says the data directory, or the certificate.
        let nobody = NodeId::from_uuid(Uuid::nil());
        let mut node = NodeSettings::new(nobody, data_dir.to_owned(), streamer, network);
        node.echo_program = config.network.echo.unwrap_or(true).then(|| install::program("kite-echo"));
        node.store = config.store(data_dir)?;
        node.volume = config.volume(data_dir);
        let image_bytes = config.volume.xfs_gb.map(|gb| u64::from(gb) << 30);
        if image_bytes.is_some() {
            node.work_dir = node.data_dir.join("site");
            node.volume.dir = node.work_dir.join("volume");
        }
        if let Some(runtime) = self.runtime {
            node.runtime_dir = runtime;
        }
        let file = &config.capacity;
        node.capacity.sessions = self.sessions.or(file.sessions).unwrap_or(node.capacity.sessions).max(1);
        node.capacity.pixels_per_second = match (file.megapixels_per_second, self.sessions) {
            (Some(megapixels), _) => u64::from(megapixels) * 1_000_000,
            // Who counts places on the command line means just these.
            (None, Some(_)) => u64::MAX,
            (None, None) => node.capacity.pixels_per_second,
        };
        node.capacity = with_amounts(file, self.sessions.is_some(), node.capacity);
        node.min_free_disk_mb = file.min_free_disk_mb.unwrap_or(node.min_free_disk_mb);
        node.encoder = self.encoder.map(EncoderChoice::from).or(config.stream.encoder).unwrap_or(node.encoder);
        node.audio = config.stream.audio.unwrap_or(node.audio);
        let bitrate = &mut node.bitrate;
        bitrate.min_kbps = config.stream.min_kbps.unwrap_or(bitrate.min_kbps);
        bitrate.max_kbps = config.stream.max_kbps.unwrap_or(bitrate.max_kbps);
        bitrate.start_kbps = config.stream.start_kbps.unwrap_or(bitrate.start_kbps);
        if bitrate.min_kbps > bitrate.max_kbps {
            bail!("stream.min_kbps ({}) is above stream.max_kbps ({})", bitrate.min_kbps, bitrate.max_kbps);
        }
        bitrate.start_kbps = bitrate.start_kbps.clamp(bitrate.min_kbps, bitrate.max_kbps);
        Ok(NodePlan { settings: node, image_bytes })
    }
}

/// What a node has of processors, memory and network: the file over what the machine has. Who counts places on the command line means just these,
/// and limits nothing else but what the file says.
#[expect(clippy::cast_precision_loss, reason = "no machine has 16 million processors")]
fn with_amounts(file: &config::Capacity, counts_places: bool, machine: Capacity) -> Capacity {
    let is_told = file.cpus.is_some() || file.cpu_overcommit.is_some();
    let cpus = file.cpus.unwrap_or_else(|| node::processors() as f32);
    let told = || node::cpu_milli(cpus, file.cpu_overcommit.unwrap_or(node::CPU_OVERCOMMIT));
    let of_machine = |amount: Option<u32>| amount.filter(|_| !counts_places);
    Capacity {
        cpu_milli: is_told.then(told).or(of_machine(machine.cpu_milli)),
        memory_mib: file.memory_mb.or(of_machine(machine.memory_mib)),
        egress_kbps: file.egress_kbps.filter(|kbps| *kbps > 0),
        ..machine
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: NodeArgs, config: &str) -> (control::Settings, NodeSettings) {
        let config = Config::parse(config).unwrap();
        let dir = Path::new("/tmp/kite-test");
        let (control, _) = ControlArgs::default().settings(&config, dir).unwrap();
        let node = args.plan(&config, dir, control.listen.ip()).unwrap();
        (control, node.settings)
    }

    #[test]
    fn a_server_on_loopback_is_loopback_throughout() {
        let (control, node) = check(NodeArgs::default(), "");
        assert_eq!(control.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(node.network.bind.to_string(), "127.0.0.1");
        assert_eq!(node.network.advertise, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        assert_eq!((node.network.port_min, node.network.port_max), (50_000, 50_199));
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let args = NodeArgs { sessions: Some(9), ports: Some("2000-2002".parse().unwrap()), ..NodeArgs::default() };
        let (control, node) =
            check(args, "listen = \"0.0.0.0:81\"\n[capacity]\nsessions = 2\n[network]\nports = \"3000-3001\"");
        assert_eq!(node.capacity.sessions, 9);
        assert_eq!(node.network.port_min, 2000);
        assert_eq!(control.listen.port(), 81);
        assert!(!node.network.advertise.is_empty());
    }

    #[test]
    fn amounts_are_the_machines_unless_somebody_says_otherwise() {
        let (_, node) = check(NodeArgs::default(), "");
        let milli = node.capacity.cpu_milli.unwrap();
        assert_eq!(milli, node::processors() * 2000, "each processor is sold twice");
        assert!(node.capacity.memory_mib.is_some_and(|mib| mib > 0));
        assert_eq!(node.capacity.egress_kbps, None);
        let (_, node) = check(NodeArgs::default(), "[capacity]\ncpu_overcommit = 1.0\negress_kbps = 0");
        assert_eq!((node.capacity.cpu_milli, node.capacity.egress_kbps), (Some(milli / 2), None));
        let told = "[capacity]\ncpus = 3.5\nmemory_mb = 4096\negress_kbps = 900000";
        let (_, node) = check(NodeArgs::default(), told);
        let expected = (Some(7000), Some(4096), Some(900_000));
        assert_eq!((node.capacity.cpu_milli, node.capacity.memory_mib, node.capacity.egress_kbps), expected);
        let counts = || NodeArgs { sessions: Some(9), ..NodeArgs::default() };
        let (_, node) = check(counts(), "");
        assert_eq!((node.capacity.cpu_milli, node.capacity.memory_mib), (None, None));
        let (_, node) = check(counts(), told);
        assert_eq!((node.capacity.cpu_milli, node.capacity.memory_mib), (Some(7000), Some(4096)));
    }

    #[test]
    fn the_way_can_be_measured_unless_the_file_forbids_it() {
        let (_, node) = check(NodeArgs::default(), "");
        assert!(node.echo_program.is_some_and(|program| program.ends_with("kite-echo")));
        let (_, node) = check(NodeArgs::default(), "[network]\necho = false");
        assert_eq!(node.echo_program, None);
    }

    #[test]
    fn the_start_bitrate_stays_between_the_others() {
        let (_, node) = check(NodeArgs::default(), "[stream]\nmax_kbps = 1000");
        assert_eq!(node.bitrate.start_kbps, 1000);
    }
}
