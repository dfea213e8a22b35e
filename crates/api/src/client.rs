//! The client: one request on one connection to the daemon's socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::error::ErrorBody;
use crate::operation::Operation;
use crate::{BODY_MAX, DEFAULT_SOCKET, SOCKET_VARIABLE};

/// How long a request may take if nothing else is said: a large configuration takes seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no answer, or not the one asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("dpnatd does not answer on {}: {reason}; start it with `systemctl start dpnatd` or \
             `dpnatd --config FILE`, or name its socket with {SOCKET_VARIABLE}", .socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the kernel says.
        reason: std::io::Error,
    },
    /// The daemon refused.
    #[error("{0}")]
    Refused(ErrorBody),
    /// No answer in time.
    #[error("dpnatd on {} has not answered within {timeout:?}", .socket.display())]
    Timeout {
        /// The socket.
        socket: PathBuf,
        /// How long it had.
        timeout: Duration,
    },
    /// The request cannot be written.
    #[error("cannot ask for {operation}: {reason}")]
    Request {
        /// What was asked for.
        operation: Operation,
        /// What is wrong.
        reason: String,
    },
    /// The answer is not what this program understands.
    #[error("dpnatd on {} answered in a way that this program does not understand ({reason}); \
             are both of one version?", .socket.display())]
    Protocol {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// A request: an operation with its names, query and body.
#[derive(Clone, Debug)]
pub struct Request {
    operation: Operation,
    path: String,
    query: String,
    body: Bytes,
    content_type: &'static str,
    failure: Option<String>,
}

impl Request {
    /// Of an operation, with nothing else yet.
    pub fn new(operation: Operation) -> Self {
        Self {
            operation,
            path: operation.path().to_owned(),
            query: String::new(),
            body: Bytes::new(),
            content_type: "application/json",
            failure: None,
        }
    }

    /// Puts `value` where the path has `{key}`.
    #[must_use]
    pub fn name(mut self, key: &str, value: &str) -> Self {
        let place = format!("{{{key}}}");
        if value.is_empty() || !self.path.contains(&place) {
            self.failure = Some(format!("`{value}` is no {key}"));
        }
        self.path = self.path.replace(&place, &percent_encode(value));
        self
    }

    /// Sets the query.
    #[must_use]
    pub fn query(mut self, query: &impl Serialize) -> Self {
        match serde_urlencoded::to_string(query) {
            Ok(query) => self.query = query,
            Err(error) => self.failure = Some(error.to_string()),
        }
        self
    }

    /// Sets the body, as JSON.
    #[must_use]
    pub fn json(mut self, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => self.body = body.into(),
            Err(error) => self.failure = Some(error.to_string()),
        }
        self
    }

    /// Sets the body, as YAML (or JSON, which is YAML too).
    #[must_use]
    pub fn yaml(mut self, body: impl Into<String>) -> Self {
        self.body = body.into().into();
        self.content_type = "application/yaml";
        self
    }

    fn build(self) -> Result<hyper::Request<Full<Bytes>>, ClientError> {
        let operation = self.operation;
        let refuse = |reason: String| ClientError::Request { operation, reason };
        if let Some(failure) = self.failure {
            return Err(refuse(failure));
        }
        if self.path.contains('{') {
            return Err(refuse(format!("nothing is named in {}", self.path)));
        }
        let question = if self.query.is_empty() { "" } else { "?" };
        let mut builder = hyper::Request::builder()
            .method(operation.method().to_ascii_uppercase().as_str())
            .uri(format!("{}{question}{}", self.path, self.query))
            .header(hyper::header::HOST, "dpnat");
        if !self.body.is_empty() {
            builder = builder.header(hyper::header::CONTENT_TYPE, self.content_type);
        }
        builder.body(Full::new(self.body)).map_err(|error| refuse(error.to_string()))
    }
}

/// All but the unreserved characters of RFC 3986 section 2.3, and `:`, which a segment may have.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Asks the daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

impl Client {
    /// Of the daemon that listens on `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), timeout: TIMEOUT }
    }

    /// Of the daemon that `DPNAT_SOCKET` names, or of the one on the usual socket.
    pub fn from_env() -> Self {
        let named = std::env::var_os(SOCKET_VARIABLE).filter(|socket| !socket.is_empty());
        Self::new(named.map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from))
    }

    /// Gives a request that long.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks, and reads the answer as JSON.
    ///
    /// # Errors
    /// If the daemon cannot be reached, refuses, or answers with something else.
    pub async fn send<T: DeserializeOwned>(&self, request: Request) -> Result<T, ClientError> {
        let body = self.bytes(request).await?;
        serde_json::from_slice(&body).map_err(|error| self.protocol(error))
    }

    /// Asks, and gives the answer as it is.
    ///
    /// # Errors
    /// If the daemon cannot be reached, refuses, or answers with what is no text.
    pub async fn text(&self, request: Request) -> Result<String, ClientError> {
        let body = self.bytes(request).await?;
        String::from_utf8(body.into()).map_err(|error| self.protocol(error))
    }

    async fn bytes(&self, request: Request) -> Result<Bytes, ClientError> {
        let request = request.build()?;
        match tokio::time::timeout(self.timeout, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(ClientError::Timeout { socket: self.socket.clone(), timeout: self.timeout })
            }
        }
    }

    async fn exchange(&self, request: hyper::Request<Full<Bytes>>) -> Result<Bytes, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|reason| ClientError::Unreachable { socket: self.socket.clone(), reason })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.protocol(error))?;
        let answer = async {
            let response =
                sender.send_request(request).await.map_err(|error| self.protocol(error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, BODY_MAX);
            let body = body.collect().await.map_err(|error| self.protocol(error))?;
            Ok((head.status, body.to_bytes()))
        };
        // The connection moves the bytes of the answer; its own errors come back by the answer too.
        let (status, body) = tokio::select! {
            biased;
            answer = answer => answer?,
            Err(error) = connection => return Err(self.protocol(error)),
        };
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice(&body) {
            Ok(refusal) => Err(ClientError::Refused(refusal)),
            Err(_) => Err(self.protocol(format_args!("status {status} without an error"))),
        }
    }

    fn protocol(&self, reason: impl std::fmt::Display) -> ClientError {
        ClientError::Protocol { socket: self.socket.clone(), reason: reason.to_string() }
    }
}

/// The same for programs without a runtime of their own.
pub mod blocking {
    use serde::de::DeserializeOwned;
    use tokio::runtime::{Builder, Runtime};

    use super::{ClientError, Request};

    /// Asks the daemon and waits for the answer.
    #[derive(Debug)]
    pub struct Client {
        client: super::Client,
        runtime: Runtime,
    }

    impl Client {
        /// With a runtime of its own on the calling thread.
        ///
        /// # Errors
        /// If the kernel gives no event queue.
        pub fn new(client: super::Client) -> std::io::Result<Self> {
            let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
            Ok(Self { client, runtime })
        }

        /// The client that is waited for.
        pub fn inner(&self) -> &super::Client {
            &self.client
        }

        /// Asks, and reads the answer as JSON.
        ///
        /// # Errors
        /// Those of [`super::Client::send`].
        pub fn send<T: DeserializeOwned>(&self, request: Request) -> Result<T, ClientError> {
            self.runtime.block_on(self.client.send(request))
        }

        /// Asks, and gives the answer as it is.
        ///
        /// # Errors
        /// Those of [`super::Client::text`].
        pub fn text(&self, request: Request) -> Result<String, ClientError> {
            self.runtime.block_on(self.client.text(request))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::service::Removal;
    use crate::{ErrorCode, RemovedConns, Version};

    /// A daemon that answers one request and gives back what it was asked.
    fn daemon(
        answer: &'static str,
    ) -> (tempfile::TempDir, Client, std::thread::JoinHandle<String>) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = vec![0; 65_536];
            let length = stream.read(&mut bytes).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        });
        (dir, Client::new(socket), asked)
    }

    #[test]
    fn asks_and_reads_the_answer() {
        let (_dir, client, asked) = daemon(
            "HTTP/1.1 200 OK\r\ncontent-length: 64\r\n\r\n\
             {\"version\":\"0.1.0\",\"commit\":\"\",\"dpdk\":\"DPDK 24.11.3\",\"api\":\"v1\"}",
        );
        let client = blocking::Client::new(client).unwrap();
        let version: Version = client.send(Request::new(Operation::Version)).unwrap();
        assert_eq!(version.version, "0.1.0");
        assert!(asked.join().unwrap().starts_with("GET /v1/version HTTP/1.1\r\n"));
    }

    #[test]
    fn names_and_queries_are_encoded() {
        let (_dir, client, asked) = daemon(
            "HTTP/1.1 404 Not Found\r\ncontent-length: 60\r\n\r\n\
             {\"error\":{\"code\":\"not-found\",\"message\":\"no service `a/b?`\"}}",
        );
        let client = blocking::Client::new(client).unwrap();
        let request = Request::new(Operation::ServerDelete)
            .name("name", "a/b?")
            .name("address", "198.18.0.121:80")
            .query(&Removal { connections: RemovedConns::Reset });
        let error = client.text(request).unwrap_err();
        let ClientError::Refused(body) = &error else { panic!("{error}") };
        assert_eq!(body.error.code, ErrorCode::NotFound);
        assert_eq!(error.to_string(), "no service `a/b?`");
        let asked = asked.join().unwrap();
        let line = "DELETE /v1/services/a%2Fb%3F/servers/198.18.0.121:80?connections=reset HTTP";
        assert!(asked.starts_with(line), "{asked}");
    }

    #[test]
    fn a_daemon_that_is_not_there_is_named() {
        let client = blocking::Client::new(Client::new("/nonexistent/dpnat.sock")).unwrap();
        let error = client.text(Request::new(Operation::Status)).unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }));
        let text = error.to_string();
        assert!(text.contains("/nonexistent/dpnat.sock"), "{text}");
        assert!(text.contains("systemctl start dpnatd") && !text.contains('\n'), "{text}");
    }

    #[test]
    fn a_daemon_that_says_nothing_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let client = Client::new(socket).with_timeout(Duration::from_millis(50));
        let client = blocking::Client::new(client).unwrap();
        let error = client.text(Request::new(Operation::Status)).unwrap_err();
        assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    }

    #[test]
    fn an_incomplete_request_is_not_sent() {
        let client = blocking::Client::new(Client::new("/nonexistent")).unwrap();
        let error = client.text(Request::new(Operation::ServiceGet)).unwrap_err();
        assert!(matches!(error, ClientError::Request { .. }), "{error}");
        let request = Request::new(Operation::ServiceGet).name("name", "");
        assert!(matches!(client.text(request), Err(ClientError::Request { .. })));
    }
}
