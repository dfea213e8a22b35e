//! The API on the daemon's socket.

mod daemon;
mod extract;
mod nat;
mod network;
mod observe;
mod routes;
mod rules;
mod services;
mod socket;
mod trust;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio::task::{AbortHandle, JoinSet};

use super::Control;
use super::limited::Limited;
pub use routes::router;
use socket::Peer;
pub use socket::{Socket, SocketError};

/// Clients served at once.
const CLIENTS_MAX: usize = 256;
/// How long a client may take for the headers of a request, its first one or the next.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// How long to wait after the process has run out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// A client that has been quiet for less keeps its place, even if another one waits.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks for a place.
const LOOK: Duration = Duration::from_millis(5);
/// A few lines of one kind are logged in so long.
const QUIET: Duration = Duration::from_secs(10);

/// Serves clients until `stop` is done; those that are being answered then are cut off.
pub async fn serve(socket: Socket, control: Control, stop: impl Future<Output = ()>) {
    let router = router(control);
    let mut crowd = Crowd::default();
    let (mut untrusted, mut failures) = (Limited::new(5, QUIET), Limited::new(5, QUIET));
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = socket.accept() => accepted,
            Some(_) = crowd.tasks.join_next() => continue,
        };
        match accepted {
            Ok(Peer::Trusted(stream)) => {
                tokio::select! {
                    () = &mut stop => break,
                    () = crowd.make_room() => crowd.serve(stream, router.clone()),
                }
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
    crowd.tasks.shutdown().await;
}

/// The clients that are served.
#[derive(Debug, Default)]
struct Crowd {
    tasks: JoinSet<()>,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    task: AbortHandle,
    /// When it asked or was answered last.
    heard: Arc<Mutex<Instant>>,
}

impl Crowd {
    /// Waits until there is a place. Of more clients than there are places, the one that has been quiet for
    /// longest has to go.
    async fn make_room(&mut self) {
        loop {
            self.clients.retain(|client| !client.task.is_finished());
            if self.clients.len() < CLIENTS_MAX {
                return;
            }
            let quietest = self.clients.iter().min_by_key(|client| *client.heard.lock());
            if let Some(client) = quietest.filter(|c| c.heard.lock().elapsed() >= PATIENCE) {
                client.task.abort();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn serve(&mut self, stream: UnixStream, router: axum::Router) {
        let heard = Arc::new(Mutex::new(Instant::now()));
        let task = self.tasks.spawn(client(stream, router, Arc::clone(&heard)));
        self.clients.push(Client { task, heard });
    }
}

/// Answers one client's requests. A client that says nothing is waited for here, by nobody else.
async fn client(stream: UnixStream, router: axum::Router, heard: Arc<Mutex<Instant>>) {
    let router = TowerToHyperService::new(router);
    let answer = service_fn(move |request| {
        *heard.lock() = Instant::now();
        let (answer, heard) = (router.call(request), Arc::clone(&heard));
        async move {
            let answer = answer.await;
            *heard.lock() = Instant::now();
            answer
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a client of the API went away");
    }
}
