//! Starts and stops the control plane.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::node::NodeLink;
use api::session::EndReason;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use crate::app::catalogue::{Catalogue, CatalogueError};
use crate::app::rate::{Rate, RateLimit};
use crate::app::uploads::Uploads;
use crate::app::{Plane, token};
use crate::coordinator::Coordinator;
use crate::coordinator::node::{self, Closing};
use crate::coordinator::{gate, judge};
use crate::http::{self, Edge, server};
use crate::reconcile;
use crate::settings::Settings;
use crate::stop::Raise;
use crate::store::{Role, SessionRecord, Store, StoreError};

/// The operator's token in the data directory.
pub const OPERATOR_TOKEN_FILE: &str = "operator-token";

/// The key that those of all saves are made from. Lost, no save can be read any more: it belongs into the operator's backup.
const SAVE_KEY_FILE: &str = "save-key";

/// The authority of nodes' certificates. Lost, all nodes have to join anew: it belongs into the operator's backup.
const AUTHORITY_DIR: &str = "authority";

/// Taken for as long as the process lives.
const LOCK_FILE: &str = "control.lock";

/// How often a stop looks whether all sessions have ended.
const STOP_PERIOD: Duration = Duration::from_millis(50);

/// How long links get to hear their sessions' end before connections are closed.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Why the control plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory or a file in it cannot be used: check its owner and the disk.
    #[error("{path} cannot be used")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has the data directory: stop it, or give this one a directory of its own.
    #[error("{0} is in use by another process of Kite: stop that one, or use another data directory")]
    InUse(PathBuf),
    /// A directory of games cannot be read: check the path.
    #[error("the games cannot be read")]
    Games(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The content store cannot be opened: check the settings under `[store]`, or the directory.
    #[error("the content store cannot be opened")]
    Content(#[source] content::StoreError),
    /// Nodes cannot be listened for: check the address, and the directory `authority` in the data directory.
    #[error("nodes cannot be listened for")]
    Nodes(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another process serves from the same PostgreSQL database: stop it, or give this one a database of its own.
    #[error("the database is in use by another process of Kite: stop that one, or use another database")]
    DatabaseInUse,
    /// The database cannot be opened: the source says what to do about PostgreSQL; otherwise check the disk, or remove a database that a newer
    /// version wrote.
    #[error("the database cannot be opened")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The address cannot be listened on: another program has it, or it is none of this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    NoRandomness,
}

/// A control plane that serves.
pub struct Running {
    address: SocketAddr,
    node_address: Option<SocketAddr>,
    done: JoinHandle<()>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Running {
    /// Where it listens; with port 0 in the settings, the port that it got.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for nodes, when it does.
    #[must_use]
    pub fn node_address(&self) -> Option<SocketAddr> {
        self.node_address
    }

    /// Waits until it has stopped: the sessions have ended, or the limit was reached. Keep the node alive until then.
    pub async fn stopped(self) {
        if let Err(error) = self.done.await {
            error!(%error, "the control plane broke");
        }
    }
}

/// Starts the control plane, with a link to the node in the same process when there is one ([`Settings::embedded`]). It listens when this returns, and stops after `shutdown` is ready:
/// new sessions are refused, all others end with `service_stopped`, which takes [`crate::Limits::shutdown_wait`] at most.
///
/// # Errors
/// Each variant of [`ServeError`] says what to do.
pub async fn serve(
    settings: Settings,
    embedded: Option<impl NodeLink>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Running, ServeError> {
    let lock = prepare_data_dir(&settings.data_dir)?;
    let operator_path = settings.data_dir.join(OPERATOR_TOKEN_FILE);
    let operator = token::operator_token(&operator_path)
        .map_err(|source| ServeError::DataDir { path: operator_path.clone(), source })?;
    let catalogue = read_catalogue(&settings).await?;
    let store = Store::open(&settings.data_dir, &settings.database).await.map_err(database)?;
    // A second one would end the sessions of the first as those of a run before it.
    let role = store.take(Role::ControlPlane).await.map_err(database)?.ok_or(ServeError::DatabaseInUse)?;
    let content = content::Store::open(&settings.content).map_err(ServeError::Content)?;
    let key_path = settings.data_dir.join(SAVE_KEY_FILE);
    let save_key =
        token::save_key(&key_path).map_err(|source| ServeError::DataDir { path: key_path.clone(), source })?;
    let (authority, gate) = match settings.nodes {
        Some(address) => {
            let (authority, gate) = open_gate(&settings.data_dir, address).await?;
            (Some(authority), Some(gate))
        }
        None => (None, None),
    };
    let node_address = gate.as_ref().map(link::Listener::address);
    let listen = |source| ServeError::Listen { address: settings.listen, source };
    let listener = TcpListener::bind(settings.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let limits = settings.limits;
    let creations = Rate { burst: limits.creation_burst, per_minute: limits.creations_per_minute };
    let plane = Arc::new(Plane {
        settings,
        store,
        catalogue: Arc::new(catalogue),
        uploads: Uploads::new(content),
        save_key,
        authority,
        coordinator: Arc::new(Coordinator::new()),
        operator,
        creations: RateLimit::new(creations),
        player_creations: RateLimit::new(creations),
        address_key: token::random().map_err(|_none| ServeError::NoRandomness)?,
        stopping: AtomicBool::new(false),
    });
    plane.refresh_catalogue().await.map_err(|problem| ServeError::Games(problem.detail.into()))?;
    plane.gather().await.map_err(database)?;
    reconcile::take_over(&plane).await.map_err(database)?;
    info!(%address, apps = plane.catalogue.apps().len(), "control plane started");

    let stop = Raise::new();
    let closing = Raise::new();
    let mut tasks = vec![tokio::spawn(reconcile::run(Arc::clone(&plane), stop.signal()))];
    if let (Some(link), Some(id)) = (embedded, plane.settings.embedded) {
        tasks.push(tokio::spawn(node::run(id, link, Closing::Lost, Arc::clone(&plane), stop.signal())));
    }
    if let Some(gate) = gate {
        tasks.push(tokio::spawn(gate::run(gate, Arc::clone(&plane), stop.signal())));
        tasks.push(tokio::spawn(judge::run(Arc::clone(&plane), stop.signal())));
    }
    let router = http::router(Edge { plane: Arc::clone(&plane), closing: closing.signal() });
    let server = tokio::spawn(server::run(listener, router, closing.signal()));
    let done = tokio::spawn(async move {
        shutdown.await;
        end_sessions(&plane).await;
        sleep(LAST_WORDS).await;
        closing.raise();
        finish("server", server).await;
        stop.raise();
        for task in tasks {
            finish("task", task).await;
        }
        role.release().await;
        if let Err(error) = plane.store.close().await {
            error!(error = &error as &dyn std::error::Error, "the database could not be closed");
        }
        drop(lock);
        info!("control plane stopped");
    });
    Ok(Running { address, node_address, done })
}

/// Opens the authority and listens for nodes.
async fn open_gate(data_dir: &Path, address: SocketAddr) -> Result<(link::Fingerprint, link::Listener), ServeError> {
    let dir = data_dir.join(AUTHORITY_DIR);
    let authority = tokio::task::spawn_blocking(move || link::Authority::open(&dir)).await;
    let authority = authority.map_err(|error| ServeError::Nodes(Box::new(error)))?;
    let authority = Arc::new(authority.map_err(|error| ServeError::Nodes(Box::new(error)))?);
    let fingerprint = authority.fingerprint();
    let gate = link::Listener::bind(address, authority).await.map_err(|error| ServeError::Nodes(Box::new(error)))?;
    Ok((fingerprint, gate))
}

fn database(error: StoreError) -> ServeError {
    ServeError::Database(Box::new(error))
}

async fn read_catalogue(settings: &Settings) -> Result<Catalogue, ServeError> {
    let games = settings.games.clone();
    let read = tokio::task::spawn_blocking(move || Catalogue::read(&games)).await;
    let read = read.map_err(|error| ServeError::Games(Box::new(error)))?;
    read.map_err(|error: CatalogueError| ServeError::Games(Box::new(error)))
}

/// Makes the data directory and takes it for this process.
fn prepare_data_dir(dir: &Path) -> Result<File, ServeError> {
    let failed = |path: &Path, source| ServeError::DataDir { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| failed(dir, source))?;
    let path = dir.join(LOCK_FILE);
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let lock = lock.map_err(|source| failed(&path, source))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(ServeError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(&path, source)),
    }
}

/// Refuses new sessions and ends all others, bounded.
async fn end_sessions(plane: &Plane) {
    plane.stopping.store(true, Ordering::Relaxed);
    info!("control plane stopping");
    let deadline = Instant::now() + plane.settings.limits.shutdown_wait;
    loop {
        // Each time anew: a claim may have been under way when the stop began.
        let mut live = match plane.store.live_sessions().await {
            Ok(live) => live,
            Err(error) => {
                error!(error = &error as &dyn std::error::Error, "the sessions could not be read");
                return;
            }
        };
        // What runs elsewhere goes on without this process, and so does the queue.
        let is_here = |record: &SessionRecord| record.node.is_some() && record.node == plane.settings.embedded;
        live.retain(|record| plane.settings.nodes.is_none() || is_here(record));
        for record in &live {
            if let Err(error) = reconcile::request_stop(plane, record.id, EndReason::ServiceStopped).await {
                error!(error = &error as &dyn std::error::Error, "a session could not be stopped");
            }
        }
        if live.is_empty() {
            return;
        }
        if Instant::now() >= deadline {
            warn!(sessions = live.len(), "sessions did not end in time");
            return;
        }
        sleep(STOP_PERIOD).await;
    }
}

async fn finish(name: &'static str, mut task: JoinHandle<()>) {
    match timeout(Duration::from_secs(5), &mut task).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => error!(name, %error, "a task broke"),
        Err(_elapsed) => {
            warn!(name, "a task did not end in time");
            task.abort();
        }
    }
}
