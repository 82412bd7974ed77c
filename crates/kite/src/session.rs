//! `kite session`: what plays on a running installation, and what operators and tenants have done with it.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use api::command::{
    Command, CommandList, CommandRequest, CommandState, DEFAULT_LOG_KIB, DEFAULT_TIMEOUT_S, MAX_SCRIPT_BYTES,
};
use api::fleet::Placement;
use api::id::{CommandId, PlayerId, SessionId};
use api::rest::{CreateSession, CreatedSession, Session, SessionList, SiteVerdict};
use bytes::Bytes;
use clap::{Args, Subcommand};
use hyper::Method;

use crate::client::{Api, ApiError, block_on};
use crate::{install, say};

/// How often it is looked whether a command has ended. A screenshot takes a tenth of a second.
const POLL: Duration = Duration::from_millis(150);

/// Longest wait for a command. The server closes each before.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Exit status of `exec` when the script took too long, as of timeout(1).
const TIMED_OUT: u8 = 124;

/// Exit status of `exec` when the script was not run, or not to its end.
const NOT_RUN: u8 = 125;

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List sessions, newest first; ended ones too, for some days.
    List {
        #[command(flatten)]
        server: Server,
        /// Running ones alone.
        #[arg(long)]
        running: bool,
    },
    /// Show a session: its state, its place, and the commands that were asked of it.
    Show(One),
    /// Launch a session. What its player needs to join it is printed, once.
    Start {
        #[command(flatten)]
        server: Server,
        /// What to play.
        app: String,
        /// Whose play it is: his save is loaded, and it stands in his history. Nobody's without.
        #[arg(long)]
        player: Option<PlayerId>,
        /// The channel whose release is played.
        #[arg(long)]
        channel: Option<String>,
    },
    /// End a session. Its player is told that the operator did it.
    End(One),
    /// End a session, and wait until nothing of it runs.
    Stop(One),
    /// Stop the game, with its save, and start it again for the same session; wait until it plays. The player's page comes back by itself.
    Restart(One),
    /// Run a script inside the game's sandbox, by `/bin/sh` and as the game's user. Prints its output and exits with its status; with 124 when
    /// it took too long, with 125 when it was not run.
    Exec {
        #[command(flatten)]
        of: One,
        /// The script; `-` reads it from standard input.
        #[arg(required_unless_present = "file")]
        script: Option<String>,
        /// Read the script from a file.
        #[arg(long, short, conflicts_with = "script")]
        file: Option<PathBuf>,
        /// It is killed after so many seconds.
        #[arg(long, default_value_t = DEFAULT_TIMEOUT_S)]
        timeout: u32,
    },
    /// Print the newest output of the game and of its streamer; also of a session that ended a while ago.
    Logs {
        #[command(flatten)]
        of: One,
        /// KiB of each.
        #[arg(long, default_value_t = DEFAULT_LOG_KIB)]
        kib: u32,
    },
    /// Write a picture of what the game shows now.
    Screenshot {
        #[command(flatten)]
        of: One,
        /// The PNG file [default: ID.png].
        #[arg(long, short)]
        output: Option<PathBuf>,
    },
    /// List the commands that were asked for, newest first: who, what, when, and what became of it.
    Commands {
        #[command(flatten)]
        server: Server,
        /// Of this session alone.
        id: Option<SessionId>,
    },
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Server {
    /// Address of the running `kite up`.
    #[arg(long, env = "KITE_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Its data directory, where the operator's token lies. KITE_TOKEN takes a token without it.
    #[arg(long, env = "KITE_DATA")]
    data: Option<PathBuf>,
}

/// A session of a server.
#[derive(Args, Clone, Debug)]
pub(crate) struct One {
    #[command(flatten)]
    server: Server,
    /// Its id, as `list` shows it.
    id: SessionId,
}

impl Server {
    pub(crate) fn open(&self) -> anyhow::Result<Api> {
        Api::open(&self.url, &self.data.clone().unwrap_or_else(install::data_dir))
    }
}

pub(crate) fn run(command: SessionCommand) -> anyhow::Result<ExitCode> {
    block_on(answer(command))
}

async fn answer(command: SessionCommand) -> anyhow::Result<ExitCode> {
    match command {
        SessionCommand::List { server, running } => {
            let list: SessionList = server.open()?.get("/v1/sessions").await?;
            for session in list.sessions.iter().filter(|session| !(running && session.state.is_ended())) {
                say::out(&line(session));
            }
        }
        SessionCommand::Show(of) => show(&of.server.open()?, of.id).await?,
        SessionCommand::Start { server, app, player, channel } => {
            start(&server.open()?, &app, player, channel).await?;
        }
        SessionCommand::End(One { server, id }) => {
            server.open()?.send(Method::DELETE, &format!("/v1/sessions/{id}")).await?;
            say::out(&format!("{id} is being ended"));
        }
        SessionCommand::Stop(of) => {
            done(&of.server.open()?, of.id, CommandRequest::Stop {}).await?;
            say::out(&format!("{} has ended", of.id));
        }
        SessionCommand::Restart(of) => {
            done(&of.server.open()?, of.id, CommandRequest::Restart {}).await?;
            say::out(&format!("{} was started again", of.id));
        }
        SessionCommand::Exec { of, script, file, timeout } => {
            let request = CommandRequest::Exec { script: read_script(script, file.as_deref())?, timeout_s: timeout };
            return exec(&of.server.open()?, of.id, request).await;
        }
        SessionCommand::Logs { of, kib } => {
            let api = of.server.open()?;
            let command = done(&api, of.id, CommandRequest::Logs { kib }).await?;
            write_out(&output_of(&api, &command).await?);
        }
        SessionCommand::Screenshot { of, output } => {
            let api = of.server.open()?;
            let command = done(&api, of.id, CommandRequest::Screenshot {}).await?;
            let picture = output_of(&api, &command).await?;
            let path = output.unwrap_or_else(|| PathBuf::from(format!("{}.png", of.id)));
            std::fs::write(&path, &picture).with_context(|| format!("cannot write {}", path.display()))?;
            say::out(&path.display().to_string());
        }
        SessionCommand::Commands { server, id } => {
            let path = id.map_or_else(|| "/v1/commands".to_owned(), |id| format!("/v1/sessions/{id}/commands"));
            let list: CommandList = server.open()?.get(&format!("{path}?limit=50")).await?;
            list.commands.iter().for_each(|command| say::out(&command_line(command)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(session: &Session) -> String {
    format!(
        "{}  {:20} {:13} {}x{} {} fps  {}",
        session.id,
        session.app,
        session.state.name(),
        session.spec.width,
        session.spec.height,
        session.spec.frames_per_second,
        session.sentence,
    )
}

fn command_line(command: &Command) -> String {
    let who = command.by.name.as_deref().unwrap_or(command.by.role.word());
    let outcome = match &command.state {
        CommandState::Done { exit: Some(exit) } => format!("exit {exit}"),
        CommandState::Failed { why } => why.clone(),
        CommandState::Queued | CommandState::Running | CommandState::Done { exit: None } | CommandState::TimedOut => {
            String::new()
        }
    };
    let script = match &command.request {
        CommandRequest::Exec { script, .. } => script.lines().next().unwrap_or_default().chars().take(60).collect(),
        CommandRequest::Stop {}
        | CommandRequest::Restart {}
        | CommandRequest::Logs { .. }
        | CommandRequest::Screenshot {} => String::new(),
    };
    format!(
        "{}  {}  {}  {:12} {:10} {:9} {:>7} ms  {}  {}",
        command.id,
        command.created_at,
        command.session,
        who,
        command.request.action(),
        command.state.name(),
        command.duration_ms.unwrap_or(0),
        outcome,
        script,
    )
}

/// What a site said, and how far it is for the player.
fn site_line(said: &SiteVerdict) -> String {
    let way = match (said.round_trip_us, said.loss_permille) {
        (Some(us), loss) => {
            let (whole, tenth) = (us / 1000, us % 1000 / 100);
            let lost = loss.filter(|permille| *permille > 0);
            let lost = lost.map_or_else(String::new, |loss| format!(", {}.{} % lost", loss / 10, loss % 10));
            format!(" ({whole}.{tenth} ms there and back{lost}, as his client measured)")
        }
        (None, _) => String::new(),
    };
    format!("  site {}: {}{way}", said.site, said.detail)
}

async fn show(api: &Api, id: SessionId) -> anyhow::Result<()> {
    let session: Session = api.get(&format!("/v1/sessions/{id}")).await?;
    say::out(&line(&session));
    say::out(&format!("created {}, ends {} at the latest", session.created_at, session.ends_at));
    // Where sessions are is the operator's to see.
    if let Ok(place) = api.get::<Placement>(&format!("/v1/sessions/{id}/placement")).await {
        let node = place.node.map_or_else(|| "no node".to_owned(), |node| node.to_string());
        say::out(&format!("on {node}, start {} of its game", place.epoch));
        place.sites.iter().for_each(|said| say::out(&site_line(said)));
    }
    let list: CommandList = api.get(&format!("/v1/sessions/{id}/commands")).await?;
    list.commands.iter().for_each(|command| say::out(&command_line(command)));
    Ok(())
}

async fn start(api: &Api, app: &str, player: Option<PlayerId>, channel: Option<String>) -> anyhow::Result<()> {
    let app = app.parse().with_context(|| format!("`{app}` is no app's name"))?;
    let request = CreateSession { app, channel, save: None, spec: None, resizable: true, player, probes: Vec::new() };
    let created: CreatedSession = api.json(Method::POST, "/v1/sessions", Some(&request)).await?;
    say::out(&line(&created.session));
    say::out(&format!("token {} (good until {})", created.token.0, created.token_expires_at));
    say::out(&format!(
        "page  {}/play/{}#session={}&token={}",
        api.url(),
        created.session.app,
        created.session.id,
        created.token.0
    ));
    Ok(())
}

fn read_script(script: Option<String>, file: Option<&Path>) -> anyhow::Result<String> {
    let most = MAX_SCRIPT_BYTES as u64 + 1;
    let mut text = String::new();
    match (script.as_deref(), file) {
        (_, Some(path)) => {
            let opened = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            opened.take(most).read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
        }
        (Some("-"), None) => {
            std::io::stdin().take(most).read_to_string(&mut text).context("cannot read the script")?;
        }
        (Some(script), None) => script.clone_into(&mut text),
        (None, None) => {}
    }
    Ok(text)
}

/// Asks for a command and waits for its end.
async fn ask(api: &Api, id: SessionId, request: &CommandRequest) -> anyhow::Result<Command> {
    let asked: Command = api.json(Method::POST, &format!("/v1/sessions/{id}/commands"), Some(request)).await?;
    let began = Instant::now();
    loop {
        let command: Command = api.get(&format!("/v1/commands/{}", asked.id)).await?;
        if command.state.is_ended() {
            return Ok(command);
        }
        if began.elapsed() > PATIENCE {
            bail!("{} has not ended: `kite session commands` shows it", asked.id);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The same, where anything but its being done is an error.
async fn done(api: &Api, id: SessionId, request: CommandRequest) -> anyhow::Result<Command> {
    let command = ask(api, id, &request).await?;
    match &command.state {
        CommandState::Done { .. } => Ok(command),
        CommandState::Failed { why } => bail!("{why}"),
        CommandState::Queued | CommandState::Running | CommandState::TimedOut => {
            bail!("{} took too long and was given up", request.action())
        }
    }
}

async fn exec(api: &Api, id: SessionId, request: CommandRequest) -> anyhow::Result<ExitCode> {
    let command = ask(api, id, &request).await?;
    if command.output.is_some() {
        write_out(&output_of(api, &command).await?);
    }
    match &command.state {
        CommandState::Done { exit } => {
            let status = exit.and_then(|status| u8::try_from(status).ok());
            Ok(status.map_or(ExitCode::from(NOT_RUN), ExitCode::from))
        }
        CommandState::Failed { why } => {
            say::error(why);
            Ok(ExitCode::from(NOT_RUN))
        }
        CommandState::Queued | CommandState::Running | CommandState::TimedOut => {
            say::error("the script took too long and was killed");
            Ok(ExitCode::from(TIMED_OUT))
        }
    }
}

async fn output_of(api: &Api, command: &Command) -> Result<Bytes, ApiError> {
    let id: CommandId = command.id;
    api.exchange(Method::GET, &format!("/v1/commands/{id}/output"), None).await
}

/// As it is: programs write what they like.
fn write_out(bytes: &[u8]) {
    let mut out = std::io::stdout();
    let _unsaid = out.write_all(bytes).and_then(|()| out.flush());
}
