//! What is named and what is set by the options of `ipvsadm`.

use config::{
    ClientAddress, ClientHeader, Datagrams, Duration, HashBy, Mode, Persistence, Pooling, Protocol,
    ProxyProtocol, Scheduler, ServerLimits, Service, SnatRule, WanAddresses, WanRange,
};
use serde_json::{Map, Value, json};
use types::Endpoint;

use super::super::missing;
use super::super::{Failure, Outcome};
use super::address::{self, number};
use super::matching::MatchRule;
use super::options::{Opt, Words};

/// The time that `-p` means without a number, seconds: DPVS's.
const PERSISTENT_S: u32 = 360;
/// The longest time, seconds: 31 days, as for the kernel's `ipvsadm`.
const TIMEOUT_MAX_S: u32 = 31 * 86_400;

/// What selects a service of DPVS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A VIP and port.
    Service(Protocol, Endpoint),
    /// What a rule of source NAT applies to.
    Match(MatchRule),
}

impl Key {
    /// The one that the options name; none if they name none.
    ///
    /// # Errors
    /// If it is written wrongly or has no counterpart.
    pub(super) fn of(words: &Words) -> Outcome<Option<Self>> {
        for (option, instead) in [
            (Opt::Sctp, missing::PROTOCOLS),
            (Opt::Icmp, missing::PROTOCOLS),
            (Opt::Icmpv6, missing::PROTOCOLS),
            (Opt::Fwmark, missing::FWMARK),
        ] {
            if words.has(option) {
                return Err(Failure::not_supported(format!("--{}", option.name()), instead));
            }
        }
        for (option, protocol) in [(Opt::Tcp, Protocol::Tcp), (Opt::Udp, Protocol::Udp)] {
            if let Some(text) = words.value(option) {
                let vip = address::endpoint(text, protocol, 0)?;
                if vip.l4_port.0 == 0 {
                    return Err(Failure::not_supported(
                        format!("port 0: `{text}`"),
                        missing::PORTS,
                    ));
                }
                return Ok(Some(Self::Service(protocol, vip)));
            }
        }
        words.value(Opt::Match).map(|text| MatchRule::parse(text).map(Self::Match)).transpose()
    }

    /// The same where one is needed; which commands need one has been checked.
    ///
    /// # Errors
    /// As for [`Key::of`].
    pub(super) fn needed(words: &Words) -> Outcome<Self> {
        Self::of(words)?.ok_or_else(|| Failure::usage("no service is named"))
    }

    /// The name that a new service or rule gets.
    pub(super) fn new_name(&self) -> String {
        match self {
            Self::Service(protocol, vip) => {
                let address = vip.address.to_string().replace(':', "-");
                format!("{protocol}-{address}-{}", vip.l4_port.0)
            }
            Self::Match(rule) => rule.rule_name(),
        }
    }

    /// The option with its value that `-S` writes.
    pub(super) fn saved(&self, show: impl Fn(Endpoint, Protocol) -> String) -> String {
        match self {
            Self::Service(Protocol::Tcp, vip) => format!("-t {}", show(*vip, Protocol::Tcp)),
            Self::Service(Protocol::Udp, vip) => format!("-u {}", show(*vip, Protocol::Udp)),
            Self::Match(rule) => format!("-H {}", rule.saved()),
        }
    }

    /// What makes lists of DPVS's services ascend: family, protocol, address, port.
    pub(super) fn order(&self) -> (bool, u8, std::net::IpAddr, u16) {
        match self {
            Self::Service(protocol, vip) => {
                let number = match protocol {
                    Protocol::Tcp => 6,
                    Protocol::Udp => 17,
                };
                (vip.address.is_ipv6(), number, vip.address, vip.l4_port.0)
            }
            Self::Match(rule) => {
                let none = std::net::Ipv4Addr::UNSPECIFIED.into();
                (rule.v6, rule.protocol.number(), none, 0)
            }
        }
    }
}

/// What is set of a service.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    scheduler: Scheduler,
    persistence: Option<Persistence>,
    one_packet: bool,
    timeout: Option<Duration>,
    /// The version of the PROXY protocol, and what becomes of a client's own header.
    proxy: Option<(ClientAddress, ClientHeader)>,
}

impl Settings {
    /// Those of the options.
    ///
    /// # Errors
    /// If one is written wrongly or has no counterpart.
    pub(super) fn of(words: &Words, key: &Key) -> Outcome<Self> {
        refuse_unknown(words)?;
        let scheduler = match words.value(Opt::Scheduler) {
            None => Scheduler::Wlc,
            Some(name) => Scheduler::ALL
                .into_iter()
                .find(|scheduler| scheduler.name() == name)
                .ok_or_else(|| Failure::not_supported(format!("-s {name}"), missing::SCHEDULERS))?,
        };
        let v6 = match key {
            Key::Service(_, vip) => vip.address.is_ipv6(),
            Key::Match(rule) => rule.v6,
        };
        let timeout = words.value(Opt::ConnTimeout);
        let timeout = timeout.map(|text| number(text, "connection timeout", 1, TIMEOUT_MAX_S));
        Ok(Self {
            scheduler,
            persistence: persistence(words, v6)?,
            one_packet: words.has(Opt::OnePacket),
            timeout: timeout.transpose()?.map(|seconds| Duration::from_secs(seconds.into())),
            proxy: proxy(words)?,
        })
    }

    /// Sets them of a service, as if it had no others.
    pub(super) fn set(&self, service: &mut Service) {
        service.scheduler = self.scheduler;
        service.hash_by = HashBy::Source;
        service.persistence.clone_from(&self.persistence);
        service.one_packet = self.one_packet;
        service.client_address = self.proxy.map(|(version, _)| version);
        service.proxy_protocol = self.proxy_protocol(service.protocol);
        match service.protocol {
            Protocol::Tcp => service.timeouts.tcp_established = self.timeout,
            Protocol::Udp => {
                service.timeouts.udp = self.timeout;
                service.timeouts.udp_oneway = self.timeout;
            }
        }
    }

    /// The change that sets them of a service that is there: a JSON merge patch.
    pub(super) fn patch(&self, service: &Service) -> Value {
        let timeouts = match service.protocol {
            Protocol::Tcp => json!({ "tcp_established": self.timeout }),
            Protocol::Udp => json!({ "udp": self.timeout, "udp_oneway": self.timeout }),
        };
        let mut patch = json!({
            "scheduler": self.scheduler, "hash_by": null, "persistence": self.persistence,
            "one_packet": self.one_packet, "timeouts": timeouts,
        });
        // Without the option the client is shown as without this protocol, however that is.
        if self.proxy.is_some() || service.client_address.is_some_and(ClientAddress::is_proxy) {
            patch["client_address"] = json!(self.proxy.map(|(version, _)| version));
            let more = self.proxy.map(|_| self.proxy_protocol(service.protocol));
            let ProxyProtocol { client_header, mut datagrams } = more.unwrap_or_default();
            // There is no option for which of them, so what was chosen stays.
            if self.proxy.is_some() && service.client_address.is_some_and(ClientAddress::is_proxy) {
                datagrams = service.proxy_protocol.datagrams;
            }
            patch["proxy_protocol"] =
                json!({ "client_header": client_header, "datagrams": datagrams });
        }
        patch
    }

    /// As DPVS has it: of a UDP conn the first datagram has a header.
    fn proxy_protocol(&self, protocol: Protocol) -> ProxyProtocol {
        let Some((_, client_header)) = self.proxy else { return ProxyProtocol::default() };
        let datagrams = match protocol {
            Protocol::Tcp => Datagrams::Each,
            Protocol::Udp => Datagrams::First,
        };
        ProxyProtocol { client_header, datagrams }
    }

    /// Sets them of a rule: what keeps a client to one real server keeps it to one WAN IP.
    pub(super) fn set_rule(&self, rule: &mut SnatRule) {
        let keeps = self.scheduler.hashes() || self.persistence.is_some();
        rule.pooling = if keeps { Pooling::Paired } else { Pooling::Arbitrary };
        if let Some(timeout) = self.timeout {
            rule.timeouts.tcp_established = timeout;
            rule.timeouts.udp = timeout;
            rule.timeouts.udp_oneway = timeout;
        }
    }
}

/// What a list says of a rule instead of a scheduler: how a new conn gets its WAN IP.
pub(super) fn rule_scheduler(rule: &SnatRule) -> &'static str {
    let weights = match &rule.wan_addresses {
        WanAddresses::Interface => &[][..],
        WanAddresses::Pool(ranges) => ranges,
    };
    let equal = weights.windows(2).all(|pair| pair[0].weight == pair[1].weight);
    match (rule.pooling, equal) {
        (Pooling::Paired, _) => "conhash",
        (Pooling::Arbitrary, true) => "rr",
        (Pooling::Arbitrary, false) => "wrr",
    }
}

fn proxy(words: &Words) -> Outcome<Option<(ClientAddress, ClientHeader)>> {
    Ok(Some(match words.value(Opt::ProxyProtocol).unwrap_or_default() {
        "" | "disable" => return Ok(None),
        "v1" => (ClientAddress::ProxyV1, ClientHeader::Replace),
        "v2" => (ClientAddress::ProxyV2, ClientHeader::Replace),
        "v1-insecure" => (ClientAddress::ProxyV1, ClientHeader::Trust),
        "v2-insecure" => (ClientAddress::ProxyV2, ClientHeader::Trust),
        other => return Err(Failure::usage(format!("invalid proxy protocol: `{other}`"))),
    }))
}

/// The value of `--proxy-protocol` that says how a service shows its clients, if one does.
pub(super) fn proxy_name(service: &Service) -> Option<&'static str> {
    let trust = service.proxy_protocol.client_header == ClientHeader::Trust;
    match (service.client_address?, trust) {
        (ClientAddress::ProxyV1, false) => Some("v1"),
        (ClientAddress::ProxyV1, true) => Some("v1-insecure"),
        (ClientAddress::ProxyV2, false) => Some("v2"),
        (ClientAddress::ProxyV2, true) => Some("v2-insecure"),
        (ClientAddress::Toa | ClientAddress::Option | ClientAddress::None, _) => None,
    }
}

/// Options of services that DPVS has and dpnat has not.
fn refuse_unknown(words: &Words) -> Outcome {
    let value = |option| words.value(option).unwrap_or_default();
    let refuse = |option: Opt, instead| {
        let text = format!("--{} {}", option.name(), value(option));
        Err(Failure::not_supported(text.trim_end(), instead))
    };
    match value(Opt::Synproxy) {
        "" | "disable" => {}
        "enable" => return refuse(Opt::Synproxy, missing::SYNPROXY),
        other => return Err(Failure::usage(format!("invalid synproxy option: `{other}`"))),
    }
    match value(Opt::HashTarget) {
        "" | "sip" => {}
        "qid" => return refuse(Opt::HashTarget, missing::QID),
        other => return Err(Failure::usage(format!("invalid hash target: `{other}`"))),
    }
    let checks = words.options.iter().filter(|(option, _)| *option == Opt::DestCheck);
    if checks.clone().any(|(_, value)| value.as_deref() != Some("disable")) {
        return refuse(Opt::DestCheck, missing::CHECK);
    }
    for (option, instead) in [
        (Opt::Engine, missing::ENGINE),
        (Opt::ExpireQuiescent, missing::QUIESCENT),
        (Opt::Quic, missing::QUIC),
    ] {
        if words.has(option) {
            return refuse(option, instead);
        }
    }
    Ok(())
}

fn persistence(words: &Words, v6: bool) -> Outcome<Option<Persistence>> {
    if !words.has(Opt::Persistent) {
        return match words.value(Opt::Netmask) {
            Some(_) => Err(Failure::usage("a netmask needs a persistent service: -p")),
            None => Ok(None),
        };
    }
    let seconds = match words.value(Opt::Persistent) {
        Some(text) => number(text, "timeout", 1, TIMEOUT_MAX_S)?,
        None => PERSISTENT_S,
    };
    let wrong = |text: &str| Failure::usage(format!("illegal netmask specified: `{text}`"));
    let prefix = match (words.value(Opt::Netmask), v6) {
        (None, false) => 32,
        (None, true) => 128,
        (Some(text), true) => number(text, "netmask", 1, 128)? as u16,
        (Some(text), false) => {
            let mask: std::net::Ipv4Addr = text.parse().map_err(|_| wrong(text))?;
            let bits = mask.to_bits();
            if bits == 0 || bits.leading_ones() + bits.trailing_zeros() != 32 {
                return Err(wrong(text));
            }
            bits.leading_ones() as u16
        }
    };
    let timeout = Duration::from_secs(seconds.into());
    let (prefix, prefix_ipv6) = if v6 { (32, prefix) } else { (prefix, 128) };
    Ok(Some(Persistence { timeout, prefix, prefix_ipv6 }))
}

/// How a real server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    FullNat,
    Masq,
    Snat,
}

impl Method {
    /// Its name in a list.
    pub(super) const fn listed(self) -> &'static str {
        match self {
            Self::FullNat => "FullNat",
            Self::Masq => "Masq",
            Self::Snat => "SNAT",
        }
    }

    /// Its option.
    pub(super) const fn option(self) -> &'static str {
        match self {
            Self::FullNat => "-b",
            Self::Masq => "-m",
            Self::Snat => "-J",
        }
    }

    pub(super) const fn of_mode(mode: Mode) -> Self {
        match mode {
            Mode::Fullnat => Self::FullNat,
            Mode::Nat => Self::Masq,
        }
    }
}

/// A real server, or a WAN IP of a rule, with what is set of it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: Endpoint,
    pub(super) weight: u16,
    pub(super) limits: ServerLimits,
}

impl Target {
    /// That of `-r` and what goes with it.
    ///
    /// # Errors
    /// If something is written wrongly.
    pub(super) fn of(words: &Words, key: &Key) -> Outcome<Self> {
        let (protocol, port) = match key {
            // Without a port it is the service's, as in the kernel's `ipvsadm`.
            Key::Service(protocol, vip) => (*protocol, vip.l4_port.0),
            Key::Match(_) => (Protocol::Tcp, 0),
        };
        let text = words.value(Opt::Server).unwrap_or_default();
        let mut address = address::endpoint(text, protocol, port)?;
        if address.l4_port.0 == 0 {
            address.l4_port.0 = port;
        }
        let weight = words.value(Opt::Weight).map(|text| number(text, "weight", 0, 65_535));
        let threshold = |option, what| {
            let given = words.value(option).map(|text| number(text, what, 0, u32::MAX));
            given.transpose().map(|given| given.filter(|number| *number > 0))
        };
        let limits = ServerLimits {
            upper: threshold(Opt::Upper, "u_threshold")?,
            lower: threshold(Opt::Lower, "l_threshold")?,
        };
        Ok(Self { address, weight: weight.transpose()?.unwrap_or(1) as u16, limits })
    }

    /// As the API has it.
    pub(super) fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("weight".to_owned(), json!(self.weight));
        fields.insert("limits".to_owned(), json!(self.limits));
        fields
    }

    /// The same as a WAN IP; the unspecified address is that of the interface.
    pub(super) fn wan(&self) -> Option<WanRange> {
        let range = config::AddressRange::from(self.address.address);
        let range = WanRange { weight: self.weight, ..WanRange::from(range) };
        (!self.address.address.is_unspecified()).then_some(range)
    }
}

/// The method that the options name, if any.
///
/// # Errors
/// If it has no counterpart, or does not go with the key.
pub(super) fn method(words: &Words, key: &Key) -> Outcome<Option<Method>> {
    for (option, letter) in [(Opt::Gatewaying, "-g"), (Opt::Ipip, "-i")] {
        if words.has(option) {
            return Err(Failure::not_supported(letter, missing::DIRECT));
        }
    }
    let named = [
        (Opt::Fullnat, Method::FullNat),
        (Opt::Masquerading, Method::Masq),
        (Opt::Snat, Method::Snat),
    ];
    let method = named.into_iter().find(|(option, _)| words.has(*option)).map(|(_, method)| method);
    match (key, method) {
        (Key::Match(_), Some(Method::FullNat | Method::Masq)) => {
            Err(Failure::usage("a match service has SNAT servers: -J"))
        }
        (Key::Service(..), Some(Method::Snat)) => {
            Err(Failure::usage("SNAT servers are those of a match service: -H"))
        }
        (_, method) => Ok(method),
    }
}
