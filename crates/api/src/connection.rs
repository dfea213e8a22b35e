//! Conns: lists of them and their removal.

use config::AddressRange;
use serde::{Deserialize, Serialize};
use types::{Endpoint, Proto};
use utoipa::{IntoParams, ToSchema};

/// The state of a conn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionState {
    /// TCP: a SYN from the client.
    SynSent,
    /// TCP: a SYN from both.
    SynReceived,
    /// TCP: the handshake is complete.
    Established,
    /// TCP: the client has sent its FIN.
    ForwardFin,
    /// TCP: the real server has sent its FIN.
    ReverseFin,
    /// TCP: both have.
    BothFin,
    /// TCP: at its end, or reset.
    Closed,
    /// UDP, ICMP: no reply yet.
    Oneway,
    /// UDP, ICMP: both have sent.
    Bidirectional,
}

/// Chooses conns: those for which all that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ConnectionQuery {
    /// Of this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Of clients with these addresses: an address, a range or a prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub client: Option<AddressRange>,
    /// To this VIP and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub vip: Option<Endpoint>,
    /// From these LIPs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub lip: Option<AddressRange>,
    /// To this real server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub server: Option<Endpoint>,
    /// Of this protocol: `tcp`, `udp` or `icmp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub protocol: Option<Proto>,
    /// In this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub state: Option<ConnectionState>,
    /// On this worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<u16>,
    /// The most at once: a list has 1,000 if not given and 10,000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where a list goes on: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl ConnectionQuery {
    /// The limit of a list if none is given.
    pub const LIMIT_DEFAULT: u32 = 1_000;
    /// The highest limit of a list.
    pub const LIMIT_MAX: u32 = 10_000;

    /// True if it chooses conns by nothing, which means all of them.
    pub fn is_unfiltered(&self) -> bool {
        *self == Self { limit: self.limit, cursor: self.cursor.clone(), ..Self::default() }
    }
}

/// A conn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// `tcp`, `udp` or `icmp`.
    #[schema(value_type = String, example = "tcp")]
    pub protocol: Proto,
    /// Its state.
    pub state: ConnectionState,
    /// The service; nothing if it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The client.
    #[schema(value_type = String, example = "192.0.2.7:50312")]
    pub client: Endpoint,
    /// What it connected to.
    #[schema(value_type = String, example = "203.0.113.10:80")]
    pub vip: Endpoint,
    /// The source that the real server sees.
    #[schema(value_type = String, example = "198.18.0.10:1024")]
    pub lip: Endpoint,
    /// The real server.
    #[schema(value_type = String, example = "198.18.0.121:80")]
    pub server: Endpoint,
    /// The worker that owns it.
    pub worker: u16,
    /// Milliseconds since it was opened.
    pub age_ms: u64,
    /// Milliseconds since its last packet.
    pub idle_ms: u64,
    /// Milliseconds until it expires if no packet comes.
    pub expires_in_ms: u64,
}

/// Some of the conns that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionPage {
    /// In no order that means something.
    pub connections: Vec<Connection>,
    /// Give this as `cursor` for more; nothing if there are no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How many conns were ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionsClosed {
    /// This many.
    pub closed: u64,
}
