//! What the running server consists of, and how it starts.
//!
//! Owns: wiring. The tasks: the log (`store::log`), the hub (`live::hub`), the media glue (`live::media`), the hourly one.
//! Elsewhere: the one port (`front`), HTTP routes (`router`), the program's command line (`main`).

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use lotse_sfu::{Sfu, SfuConfig};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
};

use crate::{
    config::Config,
    error::Error,
    front::{Came, Front},
    http::health::Readiness,
    limits::Limits,
    live::{
        hub::{Hub, HubHandle},
        media::{self, Media},
    },
    router,
    shutdown::{Stop, stopped},
    store::{
        Store, blobs,
        keys::ServerKeys,
        log::{Log, LogHandle},
        now_ms, organisation,
    },
    tls::{self, Tls},
    tokens::Tokens,
    turn::Turn,
};

/// News from the log to the hub. The log waits when it is full; the hub never waits for the log.
const NEWS_QUEUE: usize = 1024;
/// How often the heads of changed cases go into the organisation's log, and unnamed uploads are looked for.
const HOUR: Duration = Duration::from_secs(3600);
/// An upload that no event names is kept this long: longer than any device goes without a network between the two.
const UNNAMED_KEPT_MS: i64 = 7 * 24 * 3_600_000;
/// One core for so many passwords checked at once, each 19 MiB and some 20 ms of a core: a storm of logins leaves half of the machine to calls.
const CORES_A_CHECK: usize = 2;
/// How long the end may take in all: what is asked already is answered, what is committed is told.
const DRAIN: Duration = Duration::from_secs(5);

/// What every handler may use.
pub struct App {
    pub config: Config,
    pub store: Store,
    pub keys: ServerKeys,
    pub log: LogHandle,
    pub hub: HubHandle,
    pub sfu: Sfu,
    pub limits: Limits,
    pub tokens: Tokens,
    pub password_checks: Semaphore,
    /// Requests to the archivist.
    pub archive: reqwest::Client,
    pub next_conn: AtomicU64,
    /// What our own port speaks TLS with; `None`: loopback, or a proxy in front.
    pub tls: Option<Tls>,
    /// The listener is on this machine only.
    pub on_loopback: bool,
    pub stop: Stop,
    pub readiness: Readiness,
    /// Live sockets there are: the end waits for them.
    pub sockets: watch::Sender<usize>,
}

/// A server that listens and has not yet been told to serve.
pub struct Started {
    pub app: Arc<App>,
    pub http: SocketAddr,
    pub udp: Vec<u16>,
    listener: TcpListener,
}

/// Opens everything. What an operator can mend comes back with its remedy.
pub async fn start(config: Config, stop: Stop) -> Result<Started, Error> {
    lotse_trust::use_ring();
    let listen = config.http.listen;
    let listener = TcpListener::bind(listen).await.map_err(|e| {
        let remedy = match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                "Another program has this port: stop it, or choose another port in http.listen (LOTSE_HTTP_LISTEN)."
            }
            std::io::ErrorKind::PermissionDenied => {
                "Ports below 1024 need a privilege: choose 8080, or grant CAP_NET_BIND_SERVICE."
            }
            _ => "Choose an address of this machine in http.listen (LOTSE_HTTP_LISTEN).",
        };
        Error::operator(format!("http.listen = {listen}: cannot listen: {e}"), remedy)
    })?;
    let http = listener.local_addr()?;
    let tls = tls::open(&config, stop.clone())?;
    let store = Store::open(&config).await?;
    let keys = ServerKeys::open(&config, &store.pool).await?;
    let (sfu, sfu_events) = lotse_sfu::start(SfuConfig {
        bind: config.media_bind(),
        public: config.media.public_ip.clone(),
        tcp_port: config.media_tcp_port(http),
        udp_port: config.media.udp_port,
        workers: config.media.workers,
    })
    .map_err(|e| {
        Error::operator(
            format!("media.udp_port = {}: {e}", config.media.udp_port),
            "Choose a free UDP port, or 0 for any, in media.udp_port (LOTSE_MEDIA_UDP_PORT).",
        )
    })?;
    let udp = sfu.udp_ports();
    let turn = Turn::open(&config)?;
    let (news_in, news) = mpsc::channel(NEWS_QUEUE);
    let (mut log, log_handle) = Log::new(store.clone(), keys.clone(), news_in);
    let resumed = log.open_sessions().await?;
    let (media_in, media_asks) = mpsc::channel(media::QUEUE);
    tokio::spawn(log.run());
    tokio::spawn(Media::new(sfu.clone(), turn, log_handle.clone(), sfu_events, media_asks).run());
    let (hub, hub_handle) = Hub::start(resumed, news, log_handle.clone(), media_in).await;
    tokio::spawn(hub.run());
    tokio::spawn(hourly(store.clone(), keys.clone()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let password_checks = (cores / CORES_A_CHECK).max(1);
    let app = Arc::new(App {
        tls,
        on_loopback: listen.ip().is_loopback(),
        config,
        store,
        keys,
        log: log_handle,
        hub: hub_handle,
        sfu,
        limits: Limits::default(),
        tokens: Tokens::default(),
        password_checks: Semaphore::new(password_checks),
        archive: reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(3))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| Error::Us(format!("http client: {e}")))?,
        next_conn: AtomicU64::new(1),
        readiness: Readiness::default(),
        sockets: watch::Sender::new(0),
        stop,
    });
    Ok(Started { app, http, udp, listener })
}

impl Started {
    /// Serves until told to stop. Then, in bounded time: live sockets get the answers they wait for and are told; who comes meanwhile
    /// is refused with words; open answers finish, and so does the log.
    pub async fn serve(self) -> Result<(), Error> {
        let app = self.app.clone();
        let front = Front::open(self.listener, app.tls.clone(), app.sfu.clone())?;
        let routes = router::routes(self.app).into_make_service_with_connect_info::<Came>();
        let told = app.clone();
        let serving = axum::serve(front, routes).with_graceful_shutdown(async move {
            stopped(told.stop.clone()).await;
            // An error means that nobody counts any more.
            let _ = told.sockets.subscribe().wait_for(|open| *open == 0).await;
        });
        let serving = async {
            serving.into_future().await?;
            app.log.settle().await;
            app.store.pool.close().await;
            Ok(())
        };
        tokio::select! {
            result = serving => result,
            () = async { stopped(app.stop.clone()).await; tokio::time::sleep(DRAIN).await } => {
                tracing::warn!("stopping although not everything is finished: the disk, or somebody who reads, is too slow");
                Ok(())
            }
        }
    }
}

async fn hourly(store: Store, keys: ServerKeys) {
    let mut every = tokio::time::interval(HOUR);
    loop {
        every.tick().await;
        if let Err(e) = organisation::checkpoint(&store.pool, &keys).await {
            tracing::error!("no checkpoint this hour: {e}");
        }
        match blobs::forget_unnamed(&store, now_ms() - UNNAMED_KEPT_MS).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "uploads that no event has named in a week are removed"),
            Err(e) => tracing::error!("unnamed uploads are kept for now: {e}"),
        }
    }
}
