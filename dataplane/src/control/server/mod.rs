//! The API on the daemon's socket.

mod daemon;
mod extract;
mod network;
mod observe;
mod routes;
mod services;
mod socket;
mod trust;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Control;
use super::limited::Limited;
pub use routes::router;
use socket::Peer;
pub use socket::{Socket, SocketError};

/// Clients served at once; further ones wait in the socket's backlog.
const CLIENTS_MAX: usize = 256;
/// How long a client may take for the headers of a request, its first one or the next.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// How long to wait after the process has run out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// A few lines of one kind are logged in so long.
const QUIET: Duration = Duration::from_secs(10);

/// Serves clients until `stop` is done; those that are being answered then are cut off.
pub async fn serve(socket: Socket, control: Control, stop: impl Future<Output = ()>) {
    let router = router(control);
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut clients = tokio::task::JoinSet::new();
    let (mut untrusted, mut failures) = (Limited::new(5, QUIET), Limited::new(5, QUIET));
    tokio::pin!(stop);
    loop {
        let place = tokio::select! {
            () = &mut stop => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = socket.accept() => accepted,
            Some(_) = clients.join_next() => continue,
        };
        match accepted {
            Ok(Peer::Trusted(stream)) => {
                clients.spawn(client(stream, router.clone(), place));
            }
            Ok(Peer::Untrusted { uid, gid }) => {
                if let Some(unsaid) = untrusted.pass(Instant::now()) {
                    tracing::warn!(uid, gid, unsaid, "a client of the API is not trusted");
                }
            }
            Err(error) => {
                if let Some(unsaid) = failures.pass(Instant::now()) {
                    tracing::warn!(%error, unsaid, "a client of the API could not be accepted");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    clients.shutdown().await;
}

/// Answers one client's requests. A client that says nothing is waited for here, by nobody else.
async fn client(stream: UnixStream, router: axum::Router, place: OwnedSemaphorePermit) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = served.await {
        tracing::debug!(%error, "a client of the API went away");
    }
    drop(place);
}
