//! Owns the life of a node process: runtimes, listeners, start and stop. Does not serve requests itself.
//! Invariant: the cluster runs on its own runtime; HTTP threads only hand work over to it.

use crate::admin::settings;
use crate::archive::Archive;
use crate::auth::{self, Secret};
use crate::config::{Config, half_the_cores};
use crate::data_dir::DataDir;
use crate::egress::Allowed;
use crate::email::Mailer;
use crate::gateway::LoginLimit;
use crate::geo::{self, Geo};
use crate::hooks::{NodeHooks, Outside};
use crate::push::Hub;
use crate::retention::Aging;
use crate::search::Indexes;
use actix_web::http::header::X_CONTENT_TYPE_OPTIONS;
use actix_web::middleware::DefaultHeaders;
use actix_web::web::Data;
use actix_web::{App as HttpApp, HttpServer};
use anyhow::Context;
use cluster::node::{ClusterNode, HandedOver, Join, NodeConfig};
use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::Mutex;
use proto::client::limits::UNTAKEN_MAX;
use proto::command::{NodeAddress, NodeState, TokenHash};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Handle};

/// Longest time that stopping may take.
const STOP_WITHIN: Duration = Duration::from_secs(8);
/// The same for a node that is told to stop: it has 10 s in all.
const STOP_OVER: Duration = Duration::from_secs(1);
/// Longest time that moving the leaders elsewhere may take.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);

/// What every request can reach.
pub struct App {
    pub cluster: Arc<ClusterNode>,
    pub hub: Arc<Hub>,
    pub runtime: Handle,
    pub draining: AtomicBool,
    /// Proxies that are believed who asked them.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    pub logins: LoginLimit,
    /// Hash of the last `Authorization: Basic` that was right: checking a password is slow on purpose.
    pub password_seen: Mutex<Option<TokenHash>>,
    pub metrics: PrometheusHandle,
    /// Of this node's own credential in its data directory.
    pub local_token: TokenHash,
    /// Backups that this node makes.
    pub backups: crate::backup::Jobs,
    pub admin: crate::admin::Shared,
    pub audit: crate::audit::Audit,
    pub uploads: crate::attachments::Uploads,
    pub geo: Arc<Geo>,
    /// `None`: this node sends no e-mails.
    pub mailer: Option<Arc<Mailer>>,
    pub downloads: crate::email::Downloads,
    pub archive: Arc<Archive>,
}

impl App {
    /// Runs cluster work on the cluster's runtime and waits for it from an HTTP thread.
    /// # Errors
    /// The work panicked or the node is stopping.
    pub async fn on_raft<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.runtime.spawn(work).await.ok()
    }
}

/// Runs a node until it is told to stop.
/// # Errors
/// Everything that keeps it from starting, as one line.
pub fn run(config: Config) -> anyhow::Result<()> {
    config.validate()?;
    #[cfg(feature = "failpoints")]
    proto::failpoints::arm_from_environment().map_err(anyhow::Error::msg)?;
    crate::telemetry::init(&config.log).map_err(anyhow::Error::msg)?;
    // Before the ports: on a machine with one node too many, the directory is what the two have in common.
    let _claim = DataDir::claim(&config.data_dir)?;
    tracing::info!(?config, "starting");
    if let Ok(limit) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::info!(limit, "open files allowed");
    }
    let metrics = crate::metrics::install()?;
    let geo = Geo::open(config.geo_file.as_deref()).map_err(|error| {
        let file = config.geo_file.as_deref().unwrap_or(Path::new("")).display();
        anyhow::anyhow!("--geo-file {file} {error}")
    })?;
    let bind = |address: std::net::SocketAddr| {
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
    };
    let (clients, peers, admin) = (bind(config.listen)?, bind(config.peer_listen)?, bind(config.admin_listen)?);
    let address = NodeAddress {
        peer: config.advertised(peers.local_addr()?),
        client: config.advertised(clients.local_addr()?),
        admin: config.advertised(admin.local_addr()?),
    };
    let runtime = Builder::new_multi_thread()
        .worker_threads(config.raft_threads.unwrap_or_else(half_the_cores))
        .thread_name("raft")
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    let hub = Hub::new(handle.clone());
    let token = match (kept_credential(&config), &config.admin_token_file) {
        (Some(kept), _) => kept,
        (None, Some(file)) => auth::read_admin_token(file)?,
        (None, None) => auth::mint_plain_token("admin")?,
    };
    // Before the founding: a token that only the cluster knows would be lost.
    save_credential(&config.data_dir, &address.admin, &token)?;
    let allowed = Allowed::new(config.webhook_allow.clone());
    let mailer = Mailer::new(&config.smtp, &handle).map_err(anyhow::Error::msg)?;
    let aging = Aging::new(Duration::from_secs(config.retention_day_s), config.archive.as_deref())?;
    let archive = aging.archive.clone();
    let outside = Outside { allowed: allowed.clone(), mailer: mailer.clone(), aging };
    let cluster = start_cluster(&config, address.clone(), peers, &handle, hub.clone(), &token, outside)?;
    hub.attach(&cluster);
    let app = Data::new(App {
        cluster,
        hub,
        runtime: handle,
        draining: AtomicBool::new(false),
        logins: LoginLimit::default(),
        password_seen: Mutex::default(),
        trusted_proxies: config.trusted_proxy.clone(),
        metrics,
        local_token: token.hash(),
        backups: Default::default(),
        admin: crate::admin::Shared::new(config.allow_drills, allowed),
        audit: Default::default(),
        uploads: Default::default(),
        geo: Arc::new(geo),
        mailer,
        downloads: Default::default(),
        archive,
    });
    say_where(&address);
    serve(&config, app.clone(), clients, admin)?;
    let reason = app.cluster.watch_end().borrow().clone();
    runtime.shutdown_timeout(Duration::from_secs(1));
    reason.map_or(Ok(()), |reason| Err(anyhow::Error::msg(reason)))
}

/// For whoever started the node by hand.
fn say_where(address: &NodeAddress) {
    println!(
        "everdesk {}: clients http://{} peers {} admin http://{}",
        env!("CARGO_PKG_VERSION"),
        address.client,
        address.peer,
        address.admin
    );
}

/// Address and token of the admin API, for the commands on this machine.
pub(crate) const CREDENTIAL: &str = "admin.json";

fn start_cluster(
    config: &Config,
    address: NodeAddress,
    peers: TcpListener,
    handle: &Handle,
    hub: Arc<Hub>,
    token: &Secret,
    outside: Outside,
) -> anyhow::Result<Arc<ClusterNode>> {
    // Only a founding takes it, and one that was interrupted is taken up again.
    let password = auth::mint_password()?;
    let founding = password.clone();
    let join = config.join.clone().map(|address| Join {
        address,
        token: config.token.as_ref().map(|token| token.expose().to_owned()).unwrap_or_default(),
    });
    let node_config = NodeConfig {
        data_dir: config.data_dir.clone(),
        address,
        join,
        shards: config.shards,
        timings: config.timings(),
        compaction: Default::default(),
        dead_after: Duration::from_secs(config.dead_after_s),
        zone: config.zone.clone(),
        admin_token: token.hash(),
    };
    peers.set_nonblocking(true)?;
    let (runtime, allow_drills) = (handle.clone(), config.allow_drills);
    let indexes = Indexes::new(Some(config.data_dir.clone()));
    let started = handle.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(peers)?;
        let make_hooks = move |weak| NodeHooks::new(weak, hub, runtime, allow_drills, outside, indexes) as Arc<_>;
        let password = move || auth::hash_password(founding.expose()).map_err(|error| error.to_string());
        anyhow::Ok(ClusterNode::start(node_config, None, listener.into(), make_hooks, password).await?)
    });
    let node = started.with_context(|| format!("data directory {}", config.data_dir.display()))?;
    if node.founded() {
        println!("admin password: {}", password.expose());
    }
    Ok(node)
}

/// The credential of an earlier start: the founder's is good at every node, so it must not change.
fn kept_credential(config: &Config) -> Option<Secret> {
    let text = std::fs::read_to_string(config.data_dir.join(CREDENTIAL)).ok()?;
    let body: serde_json::Value = serde_json::from_str(&text).ok()?;
    body["token"].as_str().filter(|token| !token.is_empty()).map(|token| Secret::new(token.to_owned()))
}

/// Leaves the credential where the commands on this machine find it, readable by its owner only.
pub(crate) fn save_credential(dir: &Path, admin: &str, token: &Secret) -> anyhow::Result<()> {
    let body = serde_json::json!({ "url": format!("http://{admin}"), "token": token.expose() });
    Ok(cluster::checked_file::replace(dir, CREDENTIAL, &[body.to_string().as_bytes()])?)
}

/// Every answer is what its type says, whatever somebody wrote into it: no browser guesses.
fn as_it_says() -> DefaultHeaders {
    DefaultHeaders::new().add((X_CONTENT_TYPE_OPTIONS, "nosniff"))
}

/// A client's connection does not outlive the client for long, whatever the network keeps to itself.
fn ends_when_untaken(io: &dyn std::any::Any) {
    let Some(socket) = io.downcast_ref::<actix_web::rt::net::TcpStream>() else { return };
    if let Err(error) = cluster::transport::end_untaken_after(socket, UNTAKEN_MAX) {
        tracing::debug!(%error, "a client's connection had ended already");
    }
}

fn serve(config: &Config, app: Data<App>, clients: TcpListener, admin: TcpListener) -> anyhow::Result<()> {
    let workers = config.http_workers.unwrap_or_else(half_the_cores);
    let system = actix_web::rt::System::new();
    system.block_on(async move {
        let for_clients = app.clone();
        let server = HttpServer::new(move || {
            HttpApp::new().app_data(for_clients.clone()).wrap(as_it_says()).configure(crate::gateway::routes)
        })
        .on_connect(|io, _| ends_when_untaken(io))
        .workers(workers)
        .disable_signals()
        .shutdown_timeout(2)
        .listen(clients)?
        .run();
        let for_admin = app.clone();
        let admin = HttpServer::new(move || {
            let guard = actix_web::middleware::from_fn(crate::admin::guard);
            HttpApp::new().app_data(for_admin.clone()).wrap(guard).wrap(as_it_says()).configure(crate::admin::configure)
        })
        .workers(1)
        .disable_signals()
        .shutdown_timeout(1)
        .listen(admin)?
        .run();
        let (stop_clients, stop_admin) = (server.handle(), admin.handle());
        let follower = actix_web::rt::spawn(follow_wanted(app.clone()));
        actix_web::rt::spawn(settings::follow_log_filter(app.clone()));
        actix_web::rt::spawn(geo::watch(Arc::downgrade(&app.geo)));
        let stopping = async {
            tokio::select! {
                () = wait_for_signal() => tracing::info!("stopping"),
                () = removed(&app) => tracing::warn!("this node was removed from the cluster, and ends"),
                () = must_end(&app) => {}
            }
            // Nobody calls off what has begun.
            follower.abort();
            app.draining.store(true, Ordering::Release);
            let cluster = app.cluster.clone();
            let handed = app.on_raft(async move { cluster.hand_over(HAND_OVER_WITHIN, true).await }).await;
            if let Some(HandedOver { moved, kept }) = handed {
                tracing::info!(moved, kept, "handed its leaders over");
            }
            app.hub.drain(drain_retry(&app), STOP_OVER).await;
            stop_clients.stop(true).await;
            stop_admin.stop(true).await;
            let cluster = app.cluster.clone();
            let stopped =
                app.on_raft(async move { tokio::time::timeout(STOP_WITHIN, cluster.stop()).await.is_ok() }).await;
            if stopped != Some(true) {
                tracing::warn!("the cluster part did not stop in time; its log is replayed at the next start");
            }
        };
        let metrics = app.metrics.clone();
        actix_web::rt::spawn(async move {
            loop {
                actix_web::rt::time::sleep(Duration::from_secs(5)).await;
                metrics.run_upkeep();
            }
        });
        let (clients, admin, ()) = futures_util::future::join3(server, admin, stopping).await;
        clients?;
        admin?;
        anyhow::Ok(())
    })
}

/// What sockets are told to wait before they connect elsewhere.
fn drain_retry(app: &App) -> Duration {
    Duration::from_millis(settings::number(&app.cluster, settings::DRAIN_RETRY))
}

async fn must_end(app: &App) {
    let mut end = app.cluster.watch_end();
    if end.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn removed(app: &App) {
    let mut wanted = app.cluster.watch_wanted();
    if wanted.wait_for(|state| *state == NodeState::Removed).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Sends the clients away while this node is to be drained, and lets them come again when it is not.
async fn follow_wanted(app: Data<App>) {
    let mut wanted = app.cluster.watch_wanted();
    // A node that was drained and restarted knows it already.
    wanted.mark_changed();
    while wanted.changed().await.is_ok() {
        let goes = *wanted.borrow_and_update() != NodeState::Active;
        let went = app.draining.swap(goes, Ordering::AcqRel);
        if goes && !went {
            let over = Duration::from_secs(settings::number(&app.cluster, settings::DRAIN_OVER));
            app.hub.drain(drain_retry(&app), over).await;
        }
    }
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
