//! A page over HTTP/1.1, in clear or over TLS: its status, and what is in it.

use std::collections::HashMap;
use std::fmt::Write;
use std::pin::pin;
use std::sync::{Arc, LazyLock};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use md5::{Digest, Md5};
use parking_lot::Mutex;
use regex::bytes::Regex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Answer, Fault, Target, socket};

/// The longest page that is looked into.
const BODY_MAX: usize = 1 << 20;

pub(super) async fn ask(target: &Target, tls: Option<TlsConnector>) -> Answer {
    let stream = socket::connect(target).await?;
    let asked = target.asked();
    let host = target.check.host.clone().unwrap_or_else(|| asked.to_string());
    let Some(tls) = tls else { return page(target, stream, &host).await };
    let name = target.check.host.as_deref().map(without_port);
    let name = name.and_then(|name| ServerName::try_from(name.to_owned()).ok());
    let name = name.unwrap_or(ServerName::IpAddress(asked.address.into()));
    let stream = tls.connect(name, stream).await;
    let stream = stream.map_err(|error| Fault::server(format!("TLS: {error}")))?;
    page(target, stream, &host).await
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.parse::<u16>().is_ok() => name,
        _ => host,
    }
}

async fn page(target: &Target, stream: impl AsyncRead + AsyncWrite + Unpin, host: &str) -> Answer {
    let (mut sender, conn) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let path = target.check.path.as_deref().unwrap_or("/");
    let request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("dpnat/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Fault::Local(error.to_string()))?;
    let asked = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        judged(target, response).await
    };
    let (mut asked, mut conn, mut open) = (pin!(asked), pin!(conn), true);
    loop {
        tokio::select! {
            biased;
            answer = &mut asked => return answer,
            // What went wrong with it is what `asked` then says.
            _ = &mut conn, if open => open = false,
        }
    }
}

fn failed(error: hyper::Error) -> Fault {
    Fault::server(format!("HTTP: {error}"))
}

async fn judged(target: &Target, response: Response<Incoming>) -> Answer {
    let check = &target.check;
    let status = response.status().as_u16();
    let well = match check.status.as_slice() {
        [] => (200..300).contains(&status),
        ranges => ranges.iter().any(|range| range.contains(status)),
    };
    if !well {
        return Err(Fault::server(format!("status {status}")));
    }
    if check.digest.is_none() && check.body.is_none() && check.body_not.is_none() {
        return Ok(format!("status {status}"));
    }
    let body = body(response).await?;
    if let Some(wanted) = &check.digest {
        let digest = hexadecimal(&Md5::digest(&body));
        if !digest.eq_ignore_ascii_case(wanted) {
            return Err(Fault::server(format!("digest {digest}")));
        }
    }
    for (pattern, wanted) in [(&check.body, true), (&check.body_not, false)] {
        let Some(pattern) = pattern else { continue };
        if compiled(pattern)?.is_match(&body) != wanted {
            let does = if wanted { "does not match" } else { "matches" };
            return Err(Fault::server(format!("the page {does} `{pattern}`")));
        }
    }
    Ok(format!("status {status}, {} octets", body.len()))
}

async fn body(response: Response<Incoming>) -> Result<Vec<u8>, Fault> {
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.map_err(failed)?.into_data() else { continue };
        if body.len() + data.len() > BODY_MAX {
            return Err(Fault::server(format!("the page is longer than {BODY_MAX} octets")));
        }
        body.extend_from_slice(&data);
    }
    Ok(body)
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        // A String takes whatever is written.
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// Compiling takes longer than matching: each pattern is compiled once.
fn compiled(pattern: &str) -> Result<Arc<Regex>, Fault> {
    static KNOWN: LazyLock<Mutex<HashMap<String, Arc<Regex>>>> = LazyLock::new(Mutex::default);
    /// Patterns of configurations that are gone are forgotten at so many.
    const KNOWN_MAX: usize = 1_000;
    let mut known = KNOWN.lock();
    if let Some(regex) = known.get(pattern) {
        return Ok(Arc::clone(regex));
    }
    let regex = Regex::new(pattern).map_err(|error| Fault::Local(error.to_string()))?;
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    let regex = Arc::new(regex);
    known.insert(pattern.to_owned(), Arc::clone(&regex));
    Ok(regex)
}
