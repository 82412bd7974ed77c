//! `kite session`: what plays on a running installation.

use std::path::PathBuf;
use std::process::ExitCode;

use api::id::SessionId;
use api::rest::SessionList;
use clap::{Args, Subcommand};
use hyper::Method;

use crate::client::Api;
use crate::{install, say};

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
    /// End a session. Its player is told that the operator did it.
    End {
        #[command(flatten)]
        server: Server,
        /// Its id, as `list` shows it.
        id: SessionId,
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

impl Server {
    pub(crate) fn open(&self) -> anyhow::Result<Api> {
        Api::open(&self.url, &self.data.clone().unwrap_or_else(install::data_dir))
    }
}

pub(crate) fn run(command: SessionCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            SessionCommand::List { server, running } => {
                let list: SessionList = server.open()?.get("/v1/sessions").await?;
                for session in list.sessions.iter().filter(|session| !(running && session.state.is_ended())) {
                    say::out(&format!(
                        "{}  {:20} {:13} {}x{} {} fps  {}",
                        session.id,
                        session.app,
                        session.state.name(),
                        session.spec.width,
                        session.spec.height,
                        session.spec.frames_per_second,
                        session.sentence,
                    ));
                }
            }
            SessionCommand::End { server, id } => {
                server.open()?.send(Method::DELETE, &format!("/v1/sessions/{id}")).await?;
                say::out(&format!("{id} is being ended"));
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}
