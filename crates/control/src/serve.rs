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

use api::node::{InProcessLink, NodeLink};
use api::session::EndReason;
use futures_util::future::select_all;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use crate::app::catalogue::{Catalogue, CatalogueError};
use crate::app::pools::Hindrances;
use crate::app::rate::{Rate, RateLimit};
use crate::app::uploads::Uploads;
use crate::app::{self, Plane, token};
use crate::coordinator::Coordinator;
use crate::coordinator::node::{self, Closing};
use crate::coordinator::{command, gate, judge};
use crate::http::relay::Front;
use crate::http::{self, Edge, server};
use crate::observer::Observer;
use crate::reconcile;
use crate::settings::Settings;
use crate::stop::{Raise, Stop};
use crate::store::{BUSY, Held, Leader, Role, SessionRecord, Store, StoreError};

/// The operator's token in the data directory.
pub const OPERATOR_TOKEN_FILE: &str = "operator-token";

/// The key that those of all saves are made from. Lost, no save can be read any more: it belongs into the operator's backup.
const SAVE_KEY_FILE: &str = "save-key";

/// The authority of nodes' certificates. Lost, all nodes have to join anew: it belongs into the operator's backup.
const AUTHORITY_DIR: &str = "authority";

/// Taken for as long as the process lives.
const LOCK_FILE: &str = "control.lock";

/// How often a replica that waits looks who leads. Longer passes requests to one that is gone for as long.
const LEADER_PERIOD: Duration = Duration::from_millis(200);

/// How long it waits before it asks a database anew that failed.
const TURN_PAUSE: Duration = Duration::from_millis(500);

/// How long the beginning of a term is tried. The server frees the locks of a machine that is gone within some seconds.
const LEAD_LIMIT: Duration = Duration::from_secs(30);

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
    /// The connection by which this process led is lost, and another one may lead: start it again.
    #[error("the database was lost, and another replica may lead: start this one again")]
    Deposed,
    /// A part of it broke, which is a bug: the log says which. Start it again.
    #[error("the control plane broke: start it again")]
    Broken,
}

/// A control plane that serves, or waits to.
pub struct Running {
    address: SocketAddr,
    node_address: Option<SocketAddr>,
    metrics: Arc<Registry>,
    done: JoinHandle<Result<(), ServeError>>,
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

    /// Where it listens for nodes, when it does; a replica that waits does not.
    #[must_use]
    pub fn node_address(&self) -> Option<SocketAddr> {
        self.node_address
    }

    /// What it counts, for Prometheus.
    #[must_use]
    pub fn metrics(&self) -> Arc<Registry> {
        Arc::clone(&self.metrics)
    }

    /// Waits until it has stopped: the sessions have ended, or the limit was reached. Keep the node alive until then. Safe to cancel; once
    /// it is ready it is not to be asked again.
    ///
    /// # Errors
    /// It ended by itself: start it again.
    pub async fn stopped(&mut self) -> Result<(), ServeError> {
        (&mut self.done).await.unwrap_or_else(|error| {
            error!(%error, "the control plane broke");
            Err(ServeError::Broken)
        })
    }
}

/// Starts the control plane, with a link to the node in the same process when there is one ([`Settings::embedded`]). It listens when this
/// returns, and stops after `shutdown` is ready: new sessions are refused, all others end with `service_stopped`, which takes
/// [`crate::Limits::shutdown_wait`] at most. One of several replicas ([`Settings::replica`]) may wait for its turn meanwhile.
///
/// # Errors
/// Each variant of [`ServeError`] says what to do.
pub async fn serve(
    settings: Settings,
    embedded: Option<impl NodeLink>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Running, ServeError> {
    let lock = prepare_data_dir(&settings.data_dir)?;
    let store = Store::open(&settings.data_dir, &settings.database).await.map_err(database)?;
    // A server notices a moment late that the last process has ended.
    let wait = if settings.replica.is_some() { Duration::ZERO } else { BUSY };
    // A second one would end the sessions of the first as those of a run before it.
    let role = store.take(Role::ControlPlane, wait).await.map_err(database)?;
    let listen = |source| ServeError::Listen { address: settings.listen, source };
    let listener = link::listen(settings.listen).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let (front, closing) = (Front::new(settings.behind_proxy, settings.replica.clone()), Raise::new());
    let (observer, coordinator) = (Observer::new(settings.spans.clone()), Arc::new(Coordinator::new()));
    let metrics = Arc::new(observer.registry(&store, &coordinator));
    let is_replica = settings.replica.is_some();
    let candidate =
        Candidate { settings, store, observer, coordinator, address, front: front.clone(), closing: closing.signal() };
    let (term, node_address) = match role {
        Some(role) => {
            let reign = candidate.rise(role, embedded).await?;
            let node_address = reign.node_address;
            (Term::Leads(Box::new(reign)), node_address)
        }
        None if !is_replica => return Err(ServeError::DatabaseInUse),
        None => {
            info!(%address, "another replica leads: this one waits");
            (Term::Waits(Box::new(candidate)), None)
        }
    };
    let server = tokio::spawn(server::run(listener, front.clone().router(), closing.signal()));
    let done = tokio::spawn(async move {
        let mut shutdown = std::pin::pin!(shutdown);
        let reign = match term {
            Term::Leads(reign) => Some(reign),
            Term::Waits(candidate) => {
                let turn = tokio::select! {
                    role = wait_for_turn(&candidate.store, &front) => Some(role),
                    () = shutdown.as_mut() => None,
                };
                match turn {
                    Some(role) => Some(Box::new(candidate.rise(role, None::<InProcessLink>).await?)),
                    None => None,
                }
            }
        };
        let ended = match reign {
            Some(reign) => reign.rule(shutdown, &closing, server).await,
            None => {
                closing.raise();
                finish("server", server).await;
                Ok(())
            }
        };
        drop(lock);
        info!("control plane stopped");
        ended
    });
    Ok(Running { address, node_address, metrics, done })
}

/// Brings the database up to date, and nothing else.
///
/// # Errors
/// The database cannot be opened, or the embedded one is in use.
pub async fn migrate(settings: &Settings) -> Result<(), ServeError> {
    let _lock = prepare_data_dir(&settings.data_dir)?;
    let store = Store::open(&settings.data_dir, &settings.database).await.map_err(database)?;
    store.close().await.map_err(database)
}

/// Does this process lead at its start?
enum Term {
    Leads(Box<Reign>),
    Waits(Box<Candidate>),
}

/// Waits until no other replica leads; requests go to the one that does.
async fn wait_for_turn(store: &Store, front: &Front) -> Held {
    let watch = async {
        loop {
            match store.leader().await {
                Ok(leader) => front.follow(leader),
                Err(error) => warn!(error = &error as &dyn std::error::Error, "it is not known who leads"),
            }
            sleep(LEADER_PERIOD).await;
        }
    };
    let turn = async {
        loop {
            match store.take(Role::ControlPlane, Duration::MAX).await {
                Ok(Some(role)) => return role,
                Ok(None) => {}
                Err(error) => warn!(error = &error as &dyn std::error::Error, "the database does not answer"),
            }
            sleep(TURN_PAUSE).await;
        }
    };
    tokio::select! {
        role = turn => role,
        () = watch => std::future::pending().await,
    }
}

/// Begins the term, when the database lets it: what a leader had begun whose machine is gone holds locks for some seconds.
async fn lead(store: &Store, leader: &Leader) -> Result<(), ServeError> {
    let until = Instant::now() + LEAD_LIMIT;
    loop {
        match store.lead(leader).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= until => return Err(database(error)),
            Err(error) => warn!(error = &error as &dyn std::error::Error, "the term could not begin yet"),
        }
        sleep(TURN_PAUSE).await;
    }
}

/// What a process needs to lead.
struct Candidate {
    settings: Settings,
    store: Store,
    observer: Observer,
    coordinator: Arc<Coordinator>,
    address: SocketAddr,
    front: Front,
    closing: Stop,
}

impl Candidate {
    /// Begins to lead.
    async fn rise(self, role: Held, embedded: Option<impl NodeLink>) -> Result<Reign, ServeError> {
        let Self { settings, store, observer, coordinator, address, front, closing } = self;
        let secrets = settings.secrets_dir.clone().unwrap_or_else(|| settings.data_dir.clone());
        let pass = token::random().map_err(|_none| ServeError::NoRandomness)?;
        // From now on nothing is passed on: who led is gone.
        front.follow(None);
        lead(&store, &Leader { address: settings.replica.clone(), pass }).await?;
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| ServeError::DataDir { path, source }
        };
        let operator_path = secrets.join(OPERATOR_TOKEN_FILE);
        let operator = token::operator_token(&operator_path).map_err(unusable(&operator_path))?;
        let key_path = secrets.join(SAVE_KEY_FILE);
        let save_key = token::save_key(&key_path).map_err(unusable(&key_path))?;
        let catalogue = read_catalogue(&settings).await?;
        let content = content::Store::open(&settings.content).map_err(ServeError::Content)?;
        let (authority, gate) = match settings.nodes {
            Some(address) => {
                let (authority, gate) = open_gate(&secrets, address).await?;
                (Some(authority), Some(gate))
            }
            None => (None, None),
        };
        let node_address = gate.as_ref().map(link::Listener::address);
        let limits = settings.limits;
        let creations = Rate { burst: limits.creation_burst, per_minute: limits.creations_per_minute };
        // The same for every leader, so that sessions count for their addresses after a change of leaders, too.
        let address_key = save_key.derive(&["addresses"]).bytes();
        let plane = Arc::new(Plane {
            settings,
            store,
            catalogue: Arc::new(catalogue),
            uploads: Uploads::new(content),
            save_key,
            authority,
            observer,
            hindrances: Hindrances::default(),
            coordinator,
            operator,
            creations: RateLimit::new(creations),
            player_creations: RateLimit::new(creations),
            measurements: RateLimit::new(app::sites::rate(creations)),
            commands: RateLimit::new(app::commands::RATE),
            address_key,
            stopping: AtomicBool::new(false),
        });
        plane.refresh_catalogue().await.map_err(|problem| ServeError::Games(problem.detail.into()))?;
        plane.gather().await.map_err(database)?;
        reconcile::take_over(&plane).await.map_err(database)?;
        command::take_over(&plane).await.map_err(database)?;
        let stop = Raise::new();
        let mut tasks = vec![tokio::spawn(reconcile::run(Arc::clone(&plane), stop.signal()))];
        tasks.push(tokio::spawn(command::run(Arc::clone(&plane), stop.signal())));
        let embedded_link = match (embedded, plane.settings.embedded) {
            (Some(link), Some(id)) => {
                Some(tokio::spawn(node::run(id, link, Closing::Lost, Arc::clone(&plane), stop.signal())))
            }
            (Some(_), None) | (None, _) => None,
        };
        if let Some(gate) = gate {
            tasks.push(tokio::spawn(gate::run(gate, Arc::clone(&plane), stop.signal())));
            tasks.push(tokio::spawn(judge::run(Arc::clone(&plane), stop.signal())));
        }
        front.lead(http::router(Edge { plane: Arc::clone(&plane), closing }), pass);
        plane.observer.metrics.leads();
        info!(%address, apps = plane.catalogue.apps().len(), "control plane started");
        Ok(Reign { plane, role, tasks, embedded_link, stop, node_address })
    }
}

/// The time in which this process leads.
struct Reign {
    plane: Arc<Plane>,
    role: Held,
    /// None of them ends before it is to.
    tasks: Vec<JoinHandle<()>>,
    /// Ends when the node in this process does.
    embedded_link: Option<JoinHandle<()>>,
    stop: Raise,
    node_address: Option<SocketAddr>,
}

impl Reign {
    /// Leads until it is to stop, or until another replica does.
    async fn rule(
        mut self,
        shutdown: std::pin::Pin<&mut (impl Future<Output = ()> + Send)>,
        closing: &Raise,
        server: JoinHandle<()>,
    ) -> Result<(), ServeError> {
        let ended = tokio::select! {
            () = shutdown => {
                end_sessions(&self.plane).await;
                sleep(LAST_WORDS).await;
                Ok(())
            }
            () = self.role.lost() => {
                error!("the database does not know any more that this process leads: another one may");
                Err(ServeError::Deposed)
            }
            (ended, index, _others) = select_all(self.tasks.iter_mut()) => {
                error!(?ended, index, "a task of the control plane ended by itself");
                Err(ServeError::Broken)
            }
        };
        if ended.is_err() {
            // At once: another one may decide now. Nothing more is written in any case, its term fences.
            self.plane.stopping.store(true, Ordering::Relaxed);
            self.stop.raise();
        }
        closing.raise();
        finish("server", server).await;
        self.stop.raise();
        for task in self.tasks.into_iter().chain(self.embedded_link).filter(|task| !task.is_finished()) {
            finish("task", task).await;
        }
        self.role.release().await;
        if let Err(error) = self.plane.store.close().await {
            error!(error = &error as &dyn std::error::Error, "the database could not be closed");
        }
        ended
    }
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
        let mut live = plane.store.live.all();
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
