//! The one TCP port: looks at the first bytes of each connection and hands it to who understands them.
//!
//! ```text
//! TLS ClientHello ─► rustls ─► HTTP       framed STUN request ─► the media worker of that leg       HTTP ─► HTTP
//! ```
//!
//! Owns: accepting, the first look, the TLS handshake; all with a limit in time and number, so that strangers who say nothing
//! keep nobody out. Never: reads a byte that belongs to the next in line. Elsewhere: certificates (`tls`), routes (`router`),
//! media connections from then on (`lotse_sfu::tcp`).

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, Request, State, connect_info::Connected},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
    serve::{IncomingStream, Listener},
};
use lotse_sfu::{FirstBytes, Sfu, first_bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::{app::App, caller::is_own_host, error::Error, refusal::Code, tls::Tls, welcome};

/// Connections that have not said yet what they are. Browsers open some ahead and stay silent; a flood of silent ones is shut
/// out here, while those served go on. A full house closes the newcomer at once, who tries again.
const GREETING: usize = 1_024;
/// How long a connection may take to say what it is, handshake included: three round trips of a very bad link.
const PATIENCE: Duration = Duration::from_secs(10);
/// Ready connections that axum has not taken yet; it takes them at once unless the program hangs.
const READY: usize = 64;
/// Bytes of a first frame that come in pieces are looked at again after this.
const AGAIN: Duration = Duration::from_millis(5);
/// After an error of `accept` (too many open files), so that the loop does not spin.
const AFTER_ERROR: Duration = Duration::from_millis(200);
/// The longest first frame there can be.
const LOOK: usize = 2_050;

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub struct Came {
    pub from: SocketAddr,
    /// By our own TLS.
    pub secure: bool,
}

/// A connection ready for HTTP.
pub enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The listening port as axum sees it: only connections that speak HTTP come out.
pub struct Front {
    ready: mpsc::Receiver<(Io, Came)>,
    at: Came,
}

impl Front {
    /// Begins to accept.
    pub fn open(listener: TcpListener, tls: Option<Tls>, sfu: Sfu) -> io::Result<Self> {
        let at = Came { from: listener.local_addr()?, secure: tls.is_some() };
        let (out, ready) = mpsc::channel(READY);
        tokio::spawn(accept(listener, Greeter { tls, sfu, out }));
        Ok(Self { ready, at })
    }
}

#[derive(Clone)]
struct Greeter {
    tls: Option<Tls>,
    sfu: Sfu,
    out: mpsc::Sender<(Io, Came)>,
}

async fn accept(listener: TcpListener, greeter: Greeter) {
    let places = Arc::new(Semaphore::new(GREETING));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = greeter.out.closed() => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::warn!("a connection was not accepted: {e}");
                sleep(AFTER_ERROR).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let greeter = greeter.clone();
        tokio::spawn(async move {
            // Too slow, or broken on the way: closed without a word, as there is nobody to read one.
            if let Ok(Some(ready)) = timeout(PATIENCE, greeter.greet(stream, from)).await {
                drop(place);
                let _ = greeter.out.send(ready).await;
            }
        });
    }
}

impl Greeter {
    async fn greet(&self, stream: TcpStream, from: SocketAddr) -> Option<(Io, Came)> {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let mut bytes = [0; LOOK];
        loop {
            let n = stream.peek(&mut bytes).await.ok().filter(|n| *n > 0)?;
            match first_bytes(&bytes[..n]) {
                FirstBytes::Other => break,
                FirstBytes::TooFew => sleep(AGAIN).await,
                FirstBytes::Request(length) => {
                    self.sfu.adopt(stream.into_std().ok()?, &bytes[..length]);
                    return None;
                }
            }
        }
        // Signs and pens in motion must not wait for a full packet.
        stream.set_nodelay(true).ok()?;
        let is_hello = bytes[0] == 0x16;
        match &self.tls {
            Some(tls) if is_hello => {
                let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await.ok()?;
                if let Some(challenge) =
                    tls.challenge.as_ref().filter(|_| rustls_acme::is_tls_alpn_challenge(&hello.client_hello()))
                {
                    // The handshake itself is the answer.
                    hello.into_stream(challenge.clone()).await.ok()?;
                    return None;
                }
                let stream = hello.into_stream(tls.config.clone()).await.ok()?;
                Some((Io::Tls(Box::new(stream)), Came { from, secure: true }))
            }
            _ => Some((Io::Plain(stream), Came { from, secure: false })),
        }
    }
}

impl Listener for Front {
    type Io = Io;
    type Addr = Came;

    async fn accept(&mut self) -> (Io, Came) {
        match self.ready.recv().await {
            Some(ready) => ready,
            // Accepting has ended with the program.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Came> {
        Ok(self.at)
    }
}

impl Connected<IncomingStream<'_, Front>> for Came {
    fn connect_info(stream: IncomingStream<'_, Front>) -> Self {
        *stream.remote_addr()
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Middleware: where we speak TLS, plain HTTP gets the own authority's certificate, the page that explains it, and otherwise
/// the way to https.
pub async fn demand_tls(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let came = request.extensions().get::<ConnectInfo<Came>>().map(|c| c.0);
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.filter(|host| is_own_host(host, &app.config));
    if let Some(authority) = app.tls.as_ref().and_then(|tls| tls.authority.as_ref()) {
        let uri = request.uri();
        if uri.path() == "/ca.crt" {
            let kind = [(header::CONTENT_TYPE, "application/x-x509-ca-cert"), (header::CACHE_CONTROL, "no-store")];
            return (kind, authority.pem.clone()).into_response();
        }
        // An address typed without https leads to the page that explains, not into a browser's warning.
        let typed = uri.path() == "/" && came.is_some_and(|came| !came.secure);
        let path = if typed { "/trust" } else { uri.path() };
        let page = host.and_then(|host| welcome::answer(path, uri.query(), request.headers(), host));
        if let Some(page) = page {
            return page;
        }
    }
    if app.tls.is_none() || came.is_none_or(|came| came.secure) {
        return next.run(request).await;
    }
    let Some(host) = host else {
        return Error::from(Code::WrongHost).into_response();
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    match HeaderValue::from_str(&format!("https://{host}{path}")) {
        Ok(to) => (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, to)]).into_response(),
        Err(_) => Error::from(Code::NoSuchPath).into_response(),
    }
}
