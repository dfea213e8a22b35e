//! How real servers are checked, and what becomes of one that fails.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::defaults::{is_default, is_ms, is_u16, ms, u16_of};
use crate::matching::PortRange;
use crate::schema::{Config, RouteType};
use crate::service::{Server, Servers, Service};
use crate::text::Duration;

/// One check of a real server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What is done.
    #[serde(rename = "type")]
    pub kind: CheckType,
    /// The port that is asked; the server's own if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The address that is asked; the server's own if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "198.18.1.121")]
    pub address: Option<IpAddr>,
    /// From one check to the next.
    #[serde(default = "ms::<3_000>", skip_serializing_if = "is_ms::<3_000>")]
    #[schema(default = "3s")]
    pub interval: Duration,
    /// A check that takes longer has failed.
    #[serde(default = "ms::<3_000>", skip_serializing_if = "is_ms::<3_000>")]
    #[schema(default = "3s")]
    pub timeout: Duration,
    /// How often a server that is up is asked again before the check counts as failed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: u16,
    /// How long before it is asked again.
    #[serde(default = "ms::<1_000>", skip_serializing_if = "is_ms::<1_000>")]
    #[schema(default = "1s")]
    pub retry_delay: Duration,
    /// So many checks in a row must pass for a server to come up.
    #[serde(default = "u16_of::<1>", skip_serializing_if = "is_u16::<1>")]
    #[schema(default = 1)]
    pub rise: u16,
    /// So many checks in a row must fail for a server to go down.
    #[serde(default = "u16_of::<3>", skip_serializing_if = "is_u16::<3>")]
    #[schema(default = 3)]
    pub fall: u16,
    /// What a server is taken for before it was checked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub initial: Initial,
    /// What becomes of a server that is down.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: OnFailure,
    /// Keeps a server down for a time that doubles each time it goes down again; not if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flap_damping: Option<FlapDamping>,
    /// Of `http` and `https`: what is asked for; `/` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Of `http` and `https`: the name in `Host` and in the TLS handshake; the server's address if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Of `http` and `https`: the statuses that are well; 200 to 299 if not given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: Vec<PortRange>,
    /// Of `http` and `https`: the MD5 digest of the body, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Of `http` and `https`: a regular expression that the body must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Of `http` and `https`: a regular expression that the body must not match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_not: Option<String>,
    /// Of `udp`: what is sent, in hexadecimal; an empty datagram if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// Of `udp`: `any`, or how the answer must begin, in hexadecimal with `x` for any digit. If not given,
    /// a server that does not say that it is unreachable is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// Of `dns`: the name that is asked for; `.` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Of `dns`: the type of record that is asked for; SOA if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<DnsRecord>,
    /// Of `script`: a program by its full path, and its arguments; no shell is between.
    #[serde(default, skip_serializing_if = "is_default")]
    pub command: Vec<String>,
    /// Of `script`: the user that it runs as; `nobody` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl Health {
    /// A check of this type; everything else is default.
    pub const fn new(kind: CheckType) -> Self {
        Self {
            kind,
            port: None,
            address: None,
            interval: Duration::from_secs(3),
            timeout: Duration::from_secs(3),
            retries: 0,
            retry_delay: Duration::from_secs(1),
            rise: 1,
            fall: 3,
            initial: Initial::Up,
            on_failure: OnFailure::Inhibit,
            flap_damping: None,
            path: None,
            host: None,
            status: Vec::new(),
            digest: None,
            body: None,
            body_not: None,
            send: None,
            reply: None,
            name: None,
            record: None,
            command: Vec::new(),
            user: None,
        }
    }
}

/// What is done to check a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckType {
    /// Connects.
    Tcp,
    /// Asks for a page.
    Http,
    /// Asks for a page over TLS; any certificate will do.
    Https,
    /// Sends a datagram.
    Udp,
    /// Sends an echo request.
    Icmp,
    /// Asks for a name.
    Dns,
    /// Runs a program.
    Script,
}

impl fmt::Display for CheckType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Https => "https",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Dns => "dns",
            Self::Script => "script",
        })
    }
}

/// What a server is taken for before it was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Initial {
    /// For well.
    #[default]
    Up,
    /// For ill.
    Down,
}

/// What becomes of a server that is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It takes no new conns, as with weight 0; those it has go on.
    #[default]
    Inhibit,
    /// It is taken out of the service, and its conns end.
    Remove,
}

/// How long a server that has gone down stays down at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FlapDamping {
    /// The first time; each time that it goes down again within ten times as long, this doubles.
    pub hold: Duration,
    /// But no longer than this.
    #[serde(default = "ms::<300_000>", skip_serializing_if = "is_ms::<300_000>")]
    #[schema(default = "5m")]
    pub max: Duration,
}

/// A type of record of the domain name system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "their names are all there is to say of them")]
pub enum DnsRecord {
    A,
    Aaaa,
    Ns,
    Cname,
    Soa,
    Mx,
    Txt,
}

/// The checks of a real server; all of them must pass. Written as one, or as a list. An empty list stands
/// for none, where others would hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checks(Vec<Arc<Health>>);

impl Checks {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Health>> {
        self.0.iter()
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// True for no checks.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Health> for Checks {
    fn from_iter<I: IntoIterator<Item = Health>>(checks: I) -> Self {
        Self(checks.into_iter().map(Arc::new).collect())
    }
}

impl Serialize for Checks {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            all => all.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Checks {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrList;

        impl<'de> serde::de::Visitor<'de> for OneOrList {
            type Value = Checks;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a check such as { type: tcp } or a list of checks")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Checks, A::Error> {
                let one = Health::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Checks(vec![Arc::new(one)]))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, list: A) -> Result<Checks, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Checks)
            }
        }

        deserializer.deserialize_any(OneOrList)
    }
}

/// How much of a service must be well for it to serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Quorum {
    /// The weight of the servers that are up, together: with less, the sorry server takes over.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schema(default = 1)]
    pub weight: u32,
    /// It is lost only with so much less, and there again only with so much more.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hysteresis: u32,
}

const fn one() -> u32 {
    1
}

fn is_one(weight: &u32) -> bool {
    *weight == 1
}

impl Service {
    /// The checks of one of its real servers: the server's own, or the service's, or the group's.
    pub fn checks_of<'a>(&'a self, server: &'a Server, config: &'a Config) -> &'a [Arc<Health>] {
        let of_group = || match &self.servers {
            Servers::Group(name) => config.server_groups.get(name)?.health.as_ref(),
            Servers::Inline(_) => None,
        };
        let checks = server.health.as_ref().or(self.health.as_ref()).or_else(of_group);
        checks.map_or(&[], |checks| &checks.0)
    }

    /// The quorum as weight and hysteresis; of a service without one, any server is enough.
    pub fn quorum(&self) -> (u32, u32) {
        self.quorum.as_ref().map_or((1, 0), |quorum| (quorum.weight, quorum.hysteresis))
    }
}

/// By which interface and router others are reached, as far as it is configured.
#[derive(Debug)]
pub struct Towards<'a>(Vec<(IpNet, u32, Leg<'a>)>);

/// The interface, and the router if there is one.
pub type Leg<'a> = (&'a str, Option<IpAddr>);

impl<'a> Towards<'a> {
    /// As this configuration has it.
    pub fn new(config: &'a Config) -> Self {
        // An address alone has no link around it.
        let nets = config.addresses.iter().map(|entry| (entry.address.net(), &entry.dev));
        let subnets = nets.filter(|(net, _)| net.prefix_len() < net.max_prefix_len());
        let subnets = subnets.map(|(net, dev)| (net, 0, (dev.as_str(), None)));
        let routes = config.routes.iter().filter(|route| route.route_type == RouteType::Unicast);
        let routes =
            routes.map(|route| (route.to.net(), route.metric, (route.dev.as_str(), route.via)));
        Self(subnets.chain(routes).collect())
    }

    /// The way to an address: that of the longest prefix, of several the one with the lowest metric.
    pub fn leg(&self, address: IpAddr) -> Option<Leg<'a>> {
        let covering = self.0.iter().filter(|(net, ..)| net.contains(&address));
        let best = covering.min_by_key(|(net, metric, _)| (u8::MAX - net.prefix_len(), *metric));
        best.map(|(.., leg)| *leg)
    }
}

impl Config {
    /// Interfaces by which IPv4 servers are checked from no address that the configuration names: they
    /// need a KNI.
    pub fn checked_by(&self) -> BTreeSet<&str> {
        let services = self.services.values().filter(|service| service.check_source.is_none());
        let asked = services.flat_map(|service| {
            let servers = service.resolved_servers(self).iter();
            servers.flat_map(|server| {
                let checks = service.checks_of(server, self).iter();
                let on_net = checks.filter(|check| check.kind != CheckType::Script);
                on_net.map(|check| check.address.unwrap_or(server.address.address))
            })
        });
        let asked: HashSet<IpAddr> = asked.filter(IpAddr::is_ipv4).collect();
        let towards = Towards::new(self);
        asked.into_iter().filter_map(|address| towards.leg(address)).map(|(dev, _)| dev).collect()
    }
}

/// The digits of a text in hexadecimal, blanks between them left out, two an octet; `x` stands for any
/// digit where a pattern may be. Gives octets with the bits of each that count.
pub fn hex_pattern(text: &str, pattern: bool) -> Option<Vec<(u8, u8)>> {
    let digit = |c: char| match c {
        'x' | 'X' if pattern => Some((0, 0)),
        c => c.to_digit(16).map(|digit| (digit as u8, 15)),
    };
    let digits: Option<Vec<_>> = text.chars().filter(|c| !c.is_whitespace()).map(digit).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    let octet = |pair: &[(u8, u8)]| match pair {
        [(high, high_mask), (low, low_mask)] => (high << 4 | low, high_mask << 4 | low_mask),
        _ => (0, 0),
    };
    Some(digits.chunks(2).map(octet).collect())
}
