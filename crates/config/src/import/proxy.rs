//! `proxy_protocol` of a service in keepalived's configuration for DPVS.

use super::ImportError;
use super::tree::Node;
use crate::service::Protocol;

/// How a service's real servers learn their clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proxy {
    version: &'static str,
    /// A header of the client's own is passed on.
    trust: bool,
}

impl Proxy {
    /// What the line says; none if it is off.
    pub(super) fn of(node: &Node) -> Result<Option<Self>, ImportError> {
        Ok(match node.needed("a version")? {
            "disable" | "none" => None,
            "v1" => Some(Self { version: "v1", trust: false }),
            "v2" => Some(Self { version: "v2", trust: false }),
            "v1-insecure" => Some(Self { version: "v1", trust: true }),
            "v2-insecure" => Some(Self { version: "v2", trust: true }),
            other => {
                let expected = "disable, v1, v2, v1-insecure or v2-insecure";
                return Err(
                    node.wrong(format!("`proxy_protocol {other}`: expected one of {expected}"))
                );
            }
        })
    }

    /// The lines of the service that say the same.
    pub(super) fn lines(
        proxy: Option<Self>,
        protocol: Protocol,
        service: &Node,
    ) -> Result<Vec<String>, ImportError> {
        let Some(Self { version, trust }) = proxy else { return Ok(Vec::new()) };
        if (protocol, version) == (Protocol::Udp, "v1") {
            return Err(service.wrong("`proxy_protocol v1` is for TCP only; expected v2"));
        }
        let mut lines = vec![format!("client_address: proxy-{version}")];
        let trust = trust.then_some("client_header: trust");
        // As DPVS has it: of a UDP conn the first datagram has a header.
        let first = (protocol == Protocol::Udp).then_some("datagrams: first");
        let more: Vec<&str> = trust.into_iter().chain(first).collect();
        if !more.is_empty() {
            lines.push(format!("proxy_protocol: {{ {} }}", more.join(", ")));
        }
        Ok(lines)
    }
}
