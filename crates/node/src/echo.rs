//! The agent's side of the node's `kite-echo`: starts it, hands it offers, and starts it again when it is gone.
//!
//! ```text
//! starting -- Ready --> up --- it ends, hangs or writes nonsense --> gone -- a pause that doubles --> starting
//! ```
//!
//! Without one the node plays as ever: only nobody can measure the way to it. Deliberately absent: what an echo is, who may measure.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use api::echo::{EchoSettings, FromEcho, ToEcho};
use api::node::OfferFailure;
use api::streamer::NetworkSettings;
use sandbox::ServerGroup;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::process::Child;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::instance::AnswerTo;
use crate::lines::{self, Heard};
use crate::place;
use crate::settings::NodeSettings;
use crate::sys::{self, Become};

/// Its memory. It takes 5 MB, and a megabyte for each of 64 clients whose messages it puts together at worst.
const MEMORY_BYTES: u64 = 128 << 20;

/// Its processes and threads: it has one.
const PROCESSES: u32 = 8;

/// Offers that wait for it. It answers one in a millisecond; more would only be later than their clients wait.
const OFFERS: usize = 32;

/// How long it may take to open its port. It takes some milliseconds; longer only delays the next attempt.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// Pause before it is started again, the first time and at most. Shorter makes a fault that comes back a load, longer leaves players without.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long it has to have run for its end to count as the first again.
const STEADY_AFTER: Duration = Duration::from_secs(60);

/// An offer, and where its answer goes.
type Offer = (String, AnswerTo);

/// The echo, as the agent knows it.
#[derive(Debug)]
pub(crate) struct Echo {
    offers: mpsc::Sender<Offer>,
    is_up: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

/// What it is started with, each time.
#[derive(Debug)]
struct Keeper {
    program: PathBuf,
    network: NetworkSettings,
    log: PathBuf,
    /// Of its control group.
    name: String,
    uid: Option<u32>,
    changed: Arc<Notify>,
}

impl Echo {
    /// Starts one where the settings have room for it. `changed` is told when it comes and goes.
    pub(crate) fn start(settings: &NodeSettings, uid: Option<u32>, changed: Arc<Notify>) -> Option<Self> {
        let program = settings.echo_program.clone()?;
        if !program.is_file() {
            tracing::warn!(program = %program.display(), "there is no echo: players' clients cannot measure the way to this node");
            return None;
        }
        if let Err(why) = may_have(&settings.network, settings.capacity.sessions) {
            tracing::info!(why, "players' clients cannot measure the way to this node");
            return None;
        }
        let keeper = Keeper {
            program,
            network: settings.network.clone(),
            log: place::logs_dir(settings).join("echo.log"),
            name: group(settings),
            uid,
            changed,
        };
        let (offers, waiting) = mpsc::channel(OFFERS);
        let (up, is_up) = watch::channel(false);
        Some(Self { offers, is_up, task: tokio::spawn(keeper.keep(waiting, up)) })
    }

    /// True while clients can measure.
    pub(crate) fn is_up(&self) -> bool {
        *self.is_up.borrow()
    }

    /// Hands it an offer. The answer is dropped where it cannot take it.
    pub(crate) fn offer(&self, sdp: String, answer: AnswerTo) {
        if let Err(error) = self.offers.try_send((sdp, answer)) {
            let (is_full, (_, answer)) = match error {
                mpsc::error::TrySendError::Full(offer) => (true, offer),
                mpsc::error::TrySendError::Closed(offer) => (false, offer),
            };
            // Whoever asked may be gone.
            let _unheard = answer.send(Err(if is_full { OfferFailure::Busy } else { OfferFailure::Gone }));
        }
    }

    /// Ends it.
    pub(crate) async fn stop(self) {
        drop(self.offers);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the echo's keeper ended badly");
        }
    }
}

/// The control group of a node's echo. One that a killed agent left is empty, as its echo ends with it, and is removed by the next agent.
pub(crate) fn group(settings: &NodeSettings) -> String {
    format!("{}.echo", settings.node)
}

/// Why a node with such a network has none.
fn may_have(network: &NetworkSettings, places: u32) -> Result<(), &'static str> {
    let any = (network.port_min, network.port_max) == (0, 0);
    let ports = u32::from(network.port_max.saturating_sub(network.port_min)) + 1;
    match () {
        () if network.advertise.is_empty() => Err("no address is advertised"),
        () if network.advertise_port.is_some() => Err("only one port is mapped, and it is a session's"),
        () if !any && ports <= places => {
            Err("all ports of the range are needed for sessions: widen network.ports by one")
        }
        () => Ok(()),
    }
}

impl Keeper {
    /// Until the agent drops its end.
    async fn keep(self, mut offers: mpsc::Receiver<Offer>, up: watch::Sender<bool>) {
        let mut pause = PAUSE;
        loop {
            let began = Instant::now();
            let ended = self.run(&mut offers, &up).await;
            if up.send_replace(false) {
                self.changed.notify_one();
            }
            self.remove_group().await;
            let why = match ended {
                Ok(()) => return,
                Err(why) => why,
            };
            pause = if began.elapsed() >= STEADY_AFTER { PAUSE } else { pause };
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(why = %why, pause_ms, "the echo is gone and is started again");
            let until = Instant::now() + pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
            loop {
                match tokio::time::timeout_at(until, offers.recv()).await {
                    // Whoever asked may be gone.
                    Ok(Some((_, answer))) => drop(answer.send(Err(OfferFailure::Gone))),
                    Ok(None) => return,
                    Err(_elapsed) => break,
                }
            }
        }
    }

    /// One life of it; `Ok` when it is wanted no more.
    async fn run(&self, offers: &mut mpsc::Receiver<Offer>, up: &watch::Sender<bool>) -> io::Result<()> {
        let (mut child, socket) = self.spawn()?;
        let (reader, mut writer) = socket.into_split();
        let (sender, mut heard) = mpsc::channel(OFFERS);
        tokio::spawn(lines::read(reader, sender, "the echo".to_owned()));
        let settings = EchoSettings { network: self.network.clone() };
        lines::write(&mut writer, &settings).await?;
        match timeout(READY_WITHIN, heard.recv()).await {
            Ok(Some(Heard::Message(FromEcho::Ready { port }))) => {
                tracing::info!(port, "players' clients can measure the way");
            }
            Ok(Some(_)) => return Err(io::Error::other("its first line is not that it is ready")),
            Ok(None) => return Err(io::Error::other(format!("it ended at once, see {}", self.log.display()))),
            Err(_elapsed) => return Err(io::Error::other("it was not ready in time")),
        }
        up.send_replace(true);
        self.changed.notify_one();
        serve(&mut child, &mut writer, &mut heard, offers).await
    }

    fn spawn(&self) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut environment: Vec<(OsString, OsString)> = vec![("LANG".into(), "C.UTF-8".into())];
        environment.extend(std::env::var_os("KITE_LOG").map(|value| ("KITE_LOG".into(), value)));
        let user = Become { id: self.uid, groups: Vec::new(), realtime: false };
        let mut command = sys::command(&self.program, environment, Vec::new(), user)?;
        command.current_dir(Path::new("/")).stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        let mut child = command.spawn()?;
        // Closes our copy of its end, so that its going is seen.
        drop(command);
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid
            && let Err(error) = ServerGroup::create(&self.name, MEMORY_BYTES, PROCESSES).attach(pid)
        {
            tracing::warn!(%error, "the echo runs without limits");
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(lines::keep_log(stderr, File::create(&self.log)?));
        }
        Ok((child, UnixStream::from_std(ours)?))
    }

    async fn remove_group(&self) {
        let name = self.name.clone();
        // Waits a moment for the process to be gone.
        if let Err(error) = tokio::task::spawn_blocking(move || sandbox::remove_groups(&name)).await {
            tracing::error!(%error, "the echo's group was not removed");
        }
    }
}

/// Passes offers and answers until it ends, or is wanted no more.
async fn serve(
    child: &mut Child,
    writer: &mut OwnedWriteHalf,
    heard: &mut mpsc::Receiver<Heard<FromEcho>>,
    offers: &mut mpsc::Receiver<Offer>,
) -> io::Result<()> {
    let mut waiting: BTreeMap<u64, AnswerTo> = BTreeMap::new();
    let mut request = 0;
    loop {
        let (of, outcome) = tokio::select! {
            offer = offers.recv() => match offer {
                Some((sdp, answer)) => {
                    request += 1;
                    lines::write(writer, &ToEcho::Offer { request, sdp }).await?;
                    // Those that nobody waits for any more are forgotten, so that an echo that answers nothing fills nothing.
                    waiting.retain(|_, answer| !answer.is_closed());
                    waiting.insert(request, answer);
                    continue;
                }
                None => {
                    child.kill().await?;
                    return Ok(());
                }
            },
            line = heard.recv() => match line {
                Some(Heard::Message(FromEcho::Answer { request, sdp })) => (request, Ok(sdp)),
                Some(Heard::Message(FromEcho::Refused { request, detail })) => {
                    (request, Err(OfferFailure::Refused { detail }))
                }
                Some(Heard::Message(FromEcho::Busy { request })) => (request, Err(OfferFailure::Busy)),
                Some(Heard::Message(FromEcho::Ready { .. })) => return Err(io::Error::other("it was ready twice")),
                Some(Heard::Garbage(error)) => return Err(io::Error::other(error)),
                None => return Err(io::Error::other("it closed its socket")),
            },
            ended = child.wait() => return Err(io::Error::other(format!("it ended: {}", ended?))),
        };
        if let Some(answer) = waiting.remove(&of) {
            // Whoever asked may be gone.
            let _unheard: Result<(), _> = answer.send(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_takes_what_sessions_need() {
        let network = |ports: (u16, u16), advertise_port| NetworkSettings {
            bind: [127, 0, 0, 1].into(),
            advertise: vec![[127, 0, 0, 1].into()],
            advertise_port,
            port_min: ports.0,
            port_max: ports.1,
        };
        let check = |ports, advertise_port, places, expected| {
            assert_eq!(may_have(&network(ports, advertise_port), places).is_ok(), expected, "{ports:?} for {places}");
        };
        check((50_000, 50_199), None, 4, true);
        check((0, 0), None, 4, true);
        check((50_000, 50_004), None, 4, true);
        check((50_000, 50_003), None, 4, false);
        check((50_000, 50_199), Some(50_000), 4, false);
        check((0, 65_535), None, u32::MAX, false);
        assert!(may_have(&NetworkSettings { advertise: vec![], ..network((0, 0), None) }, 1).is_err());
    }
}
