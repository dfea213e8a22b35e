//! What the rules of source NAT, destination NAT and forwarding must hold.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use types::{Endpoint, L4Port};

use crate::cover::Cover;
use crate::dnat::{DnatRule, DnatTarget};
use crate::error::{ConfigError, Path};
use crate::forwarding::{Forwarding, ForwardingAction, ForwardingPolicy, NatLog};
use crate::index::Index;
use crate::matching::{AddressMatch, Match};
use crate::named::Ordered;
use crate::schema::Config;
use crate::snat::{Filtering, Mapping, MssClamp, NatTimeouts, SnatAction, SnatRule, WanAddresses};
use crate::text::{AddressRange, Duration};
use crate::validate::Checker;

/// Names that the API has for something else.
const RESERVED: [&str; 3] = ["mappings", "pools", "subscribers"];
/// RFC 5382 REQ-5: 2 hours and 4 minutes.
const TCP_ESTABLISHED_MIN: Duration = Duration::from_secs(7_440);
/// RFC 5382 REQ-5: 4 minutes.
const TCP_TRANSITORY_MIN: Duration = Duration::from_secs(240);
/// RFC 4787 REQ-5: 2 minutes.
const UDP_MIN: Duration = Duration::from_secs(120);
/// RFC 5508 REQ-2: 60 seconds.
const ICMP_MIN: Duration = Duration::from_secs(60);
/// RFC 879: 40 bytes of headers in the 68 that every link takes, up to what fits the largest MTU.
const MSS: std::ops::RangeInclusive<u16> = 28..=9560;

impl Config {
    /// The address that masquerade takes of an interface: the first IPv4 one in `addresses` that has a subnet around it,
    /// else the first one.
    pub fn primary_address(&self, dev: &str) -> Option<IpAddr> {
        let of_dev = self.addresses.iter().filter(|entry| entry.dev == dev);
        let v4 = of_dev.map(|entry| entry.address).filter(|entry| entry.address().is_ipv4());
        let in_subnet = v4.clone().find(|entry| entry.prefix_len() < u32::BITS as u8);
        in_subnet.or_else(|| v4.clone().next()).map(|entry| entry.address())
    }

    /// The addresses that a rule puts in the place of sources; those of `interface` as they are now.
    pub fn wan_ranges(&self, rule: &SnatRule) -> Vec<AddressRange> {
        match (&rule.wan_addresses, &rule.matches.out_dev) {
            (WanAddresses::Pool(ranges), _) => ranges.iter().map(|range| range.address).collect(),
            (WanAddresses::Interface, Some(dev)) => {
                self.primary_address(dev).map(AddressRange::from).into_iter().collect()
            }
            (WanAddresses::Interface, None) => {
                let all = self.devs().filter_map(|dev| self.primary_address(dev));
                all.map(AddressRange::from).collect()
            }
        }
    }
}

impl Checker<'_> {
    /// The rules of source NAT; `only` what concerns that one, if the others are known to be valid.
    pub fn snat(&mut self, rules: &Ordered<SnatRule>, index: &Index, only: Option<&str>) {
        for (name, rule) in rules {
            if only.is_none_or(|only| only == name) {
                self.snat_rule(name, rule, index);
            }
        }
        self.one_kind_of_mapping(rules, only);
        let config = self.config;
        self.ports_left((rules, &config.dnat), only, None);
        let matches = rules.iter().map(|(name, rule)| (name.as_str(), &rule.matches));
        self.never_met(&Path::of("snat"), matches, only);
    }

    fn snat_rule(&mut self, name: &str, rule: &SnatRule, index: &Index) {
        let path = Path::of("snat").key(name);
        self.name(&path, name);
        if RESERVED.contains(&name) {
            let message = format!("`{name}` is a word of its own in the API: take another name");
            self.invalid(path.clone(), name, message);
        }
        self.matches(&path.key("match"), &rule.matches);
        let wan = path.key("wan_addresses");
        match (&rule.action, &rule.wan_addresses) {
            (SnatAction::Translate, WanAddresses::Pool(ranges)) if ranges.is_empty() => {
                let message = "the pool is empty: a rule that translates needs an outside address";
                let error = ConfigError::invalid(wan, "[]", message);
                self.errors.push(error.hint(
                    "give addresses, or `interface` for the interface's own, or another `action`",
                ));
            }
            (SnatAction::Translate, WanAddresses::Pool(ranges)) => {
                self.wan_pool(&wan, ranges, rule.matches.out_dev.as_deref(), index);
            }
            (SnatAction::Translate, WanAddresses::Interface) => {
                self.masquerade(&wan, rule, index);
            }
            (_, WanAddresses::Pool(ranges)) if ranges.is_empty() => {}
            _ => {
                let message = "it means nothing unless `action` is `translate`: leave it out";
                self.invalid(wan, "", message);
            }
        }
        if rule.mapping == Mapping::AddressAndPortDependent
            && rule.filtering == Filtering::AddressDependent
        {
            let message = "a mapping that is address-and-port-dependent lets nobody in but its own \
                           remote: filtering has no effect";
            self.warn(&path.key("filtering"), message);
        }
        if rule.mapping == Mapping::AddressAndPortDependent {
            self.without_effect(&path, rule);
        }
        if let MssClamp::Bytes(bytes) = rule.mss_clamp {
            self.within(path.key("mss_clamp"), bytes, *MSS.start(), *MSS.end());
        }
        if !rule.port_rest.is_zero() {
            self.timeout(path.key("port_rest"), rule.port_rest);
        }
        self.nat_timeouts(&path.key("timeouts"), &rule.timeouts);
    }

    /// An address with mappings of one kind must not have those of the other for the same protocol:
    /// a port would be both exclusive and shared.
    pub(crate) fn one_kind_of_mapping(&mut self, rules: &Ordered<SnatRule>, only: Option<&str>) {
        let config = self.config;
        let kind = |wanted: Mapping| {
            rules
                .iter()
                .filter(move |(_, rule)| {
                    rule.mapping == wanted && rule.action == SnatAction::Translate
                })
                .flat_map(move |(name, rule)| {
                    let protocols = Cover::of(&rule.matches).protocols();
                    let ranges = config.wan_ranges(rule);
                    ranges.into_iter().map(move |range| (name.as_str(), range, protocols))
                })
                .collect::<Vec<_>>()
        };
        let shared = kind(Mapping::AddressAndPortDependent);
        if shared.is_empty() {
            return;
        }
        let order = |name: &str| rules.get_index_of(name);
        for (one, range, protocols) in kind(Mapping::EndpointIndependent) {
            for (other, second, others) in &shared {
                let common = protocols.iter().zip(others).any(|(a, b)| a & b != 0);
                let concerns = only.is_none_or(|only| only == one || only == *other);
                if !common || !concerns || !overlap(range, *second) {
                    continue;
                }
                let (first, last) =
                    if order(one) < order(other) { (one, *other) } else { (*other, one) };
                let address = range.first().max(second.first());
                let message = format!(
                    "{address} has mappings of the other kind by rule `{first}`, for a protocol \
                     that both translate"
                );
                let path = Path::of("snat").key(last).key("mapping");
                let error = ConfigError::conflict(path, address, message);
                self.errors.push(error.hint(
                    "give both rules the same `mapping`, other addresses or other protocols",
                ));
            }
        }
    }

    /// The rules of destination NAT.
    pub fn dnat(
        &mut self,
        rules: &BTreeMap<String, Arc<DnatRule>>,
        index: &Index,
        only: Option<&str>,
    ) {
        if only.is_some() {
            let config = self.config;
            self.ports_left((&config.snat, rules), None, only);
        }
        let mut seen: HashMap<_, Vec<(&str, _)>> = HashMap::new();
        for (name, rule) in rules {
            if only.is_none_or(|only| only == name) {
                self.dnat_rule(name, rule, index);
            }
            let same = seen.entry((rule.protocol, rule.on.address)).or_default();
            for (other, on) in &*same {
                let concerns = only.is_none_or(|only| only == name || only == *other);
                if concerns && rule.on.overlaps(*on) {
                    let (here, there) = if only == Some(*other) {
                        (*other, name.as_str())
                    } else {
                        (name.as_str(), *other)
                    };
                    let message = format!(
                        "{} {} leads elsewhere by rule `{there}` already",
                        rule.protocol, rule.on
                    );
                    let path = Path::of("dnat").key(here).key("on");
                    let error = ConfigError::conflict(path, rule.on, message);
                    self.errors.push(error.hint("take another port, or a list of servers in `to`"));
                }
            }
            same.push((name, rule.on));
        }
    }

    fn dnat_rule(&mut self, name: &str, rule: &DnatRule, index: &Index) {
        let path = Path::of("dnat").key(name);
        self.name(&path, name);
        let on = path.key("on");
        let address = rule.on.address;
        if self.unicast_v4(&on, address) {
            let vip = |port: u16| {
                let vip = Endpoint { address, l4_port: L4Port(port) };
                index.vip_owner(rule.protocol, vip).map(|owner| (vip, owner.to_owned()))
            };
            let mut ports = rule.on.ports.first()..=rule.on.ports.last();
            if let Some((vip, owner)) = index.is_vip(address).then(|| ports.find_map(vip)).flatten()
            {
                let message = format!("{} {vip} is a VIP of service `{owner}`", rule.protocol);
                let error = ConfigError::conflict(on.clone(), rule.on, message);
                self.errors.push(error.hint("take another port, or add the server to the service"));
            }
            if let Some(lip) = index.lip(address) {
                let message = format!("{address} is a LIP of {}: it cannot lead inside", lip.owner);
                let error = ConfigError::conflict(on.clone(), address, message);
                self.errors.push(error.hint("take it out of the pool, or take another address"));
            }
            if !index.is_configured(address) {
                let message =
                    format!("no interface answers ARP for {address}: it is none of `addresses`");
                self.warn(&on, message);
            }
            self.no_broadcast(&on, address.into(), None);
            self.of_node(&on, address.into());
        }
        self.dnat_target(&path.key("to"), rule, index);
        self.addresses_of_match(&path.key("source"), &rule.source);
        self.interface_of_match(path.key("in_dev"), rule.in_dev.as_deref());
        self.nat_timeouts(&path.key("timeouts"), &rule.timeouts);
    }

    fn dnat_target(&mut self, path: &Path, rule: &DnatRule, index: &Index) {
        let wanted = rule.on.ports.count();
        match &rule.to {
            DnatTarget::One(to) => {
                self.unicast_v4(path, to.address);
                let count = to.ports.count();
                if count != wanted {
                    let last = u32::from(to.ports.first()) + wanted - 1;
                    let message = format!("{to} has {count} ports, but {} has {wanted}", rule.on);
                    let error = ConfigError::invalid(path.clone(), to, message);
                    self.errors.push(if last <= u32::from(u16::MAX) {
                        let (address, first) = (to.address, to.ports.first());
                        let ports =
                            if wanted == 1 { first.to_string() } else { format!("{first}-{last}") };
                        error.hint(format!("did you mean `{address}:{ports}`?"))
                    } else {
                        error
                    });
                }
                if to.overlaps(rule.on) {
                    self.invalid(path.clone(), to, format!("{} would lead to itself", rule.on));
                } else {
                    self.not_ours(path, to.address, index);
                }
            }
            DnatTarget::Servers(servers) if servers.is_empty() => {
                self.invalid(path.clone(), "[]", "it needs a server to lead to");
            }
            DnatTarget::Servers(servers) => {
                self.servers(path, servers);
                for (position, server) in servers.iter().enumerate() {
                    let path = path.index(position);
                    self.not_ours(&path, server.address.address, index);
                }
                if wanted != 1 {
                    let message = format!(
                        "{wanted} ports cannot lead to a list of servers, which have one port each"
                    );
                    let error = ConfigError::invalid(path.clone(), rule.on, message);
                    self.errors
                        .push(error.hint("lead to one server, or make a rule for each port"));
                }
            }
        }
    }

    /// The rules and the policy of forwarding.
    pub fn forwarding(&mut self, forwarding: &Forwarding, only: Option<&str>) {
        let path = Path::of("forwarding");
        let (rules, silent) = (path.key("rules"), path.key("silent"));
        for (position, dev) in forwarding.silent.iter().enumerate() {
            self.known_dev(silent.index(position), dev);
        }
        for (name, rule) in &forwarding.rules {
            if only.is_none_or(|only| only == name) {
                let path = rules.key(name);
                self.name(&path, name);
                self.matches(&path.key("match"), &rule.matches);
            }
        }
        let matches = forwarding.rules.iter().map(|(name, rule)| (name.as_str(), &rule.matches));
        self.never_met(&rules, matches, only);
        let accepts =
            forwarding.rules.iter().any(|(_, rule)| rule.action == ForwardingAction::Accept);
        if forwarding.policy == ForwardingPolicy::Drop && !accepts && !self.config.snat.is_empty() {
            let message = "nothing is accepted, so that the rules of `snat` get no packet";
            self.warn(&path.key("policy"), message);
        }
    }

    /// The log of NAT.
    pub fn nat_log(&mut self, log: &NatLog) {
        if !log.file.starts_with('/') {
            let message =
                format!("`{}` is no absolute path, such as /var/log/dpnat/nat.jsonl", log.file);
            self.invalid(Path::of("nat_log").key("file"), &log.file, message);
        }
    }

    fn matches(&mut self, path: &Path, matches: &Match) {
        let except = &matches.except;
        let excepted = path.key("except");
        self.addresses_of_match(&path.key("source"), &matches.source);
        self.addresses_of_match(&path.key("destination"), &matches.destination);
        self.addresses_of_match(&excepted.key("source"), &except.source);
        self.addresses_of_match(&excepted.key("destination"), &except.destination);
        self.interface_of_match(path.key("in_dev"), matches.in_dev.as_deref());
        self.interface_of_match(path.key("out_dev"), matches.out_dev.as_deref());
        let by_port = !matches.source_ports.is_empty() || !matches.destination_ports.is_empty();
        let without = matches.protocol.iter().position(|protocol| !protocol.has_ports());
        if let (true, Some(position)) = (by_port, without) {
            let protocol = matches.protocol[position];
            let message = format!("{protocol} has no ports here, and the rule asks for some");
            let error =
                ConfigError::invalid(path.key("protocol").index(position), protocol, message);
            self.errors.push(error.hint(format!("make a rule of its own for {protocol}")));
        }
        if let Some(what) = Cover::of(matches).all_excepted(except) {
            let message = "it excepts everything that the rule matches: the rule does nothing";
            self.warn(&excepted.key(what), message);
        }
    }

    fn addresses_of_match(&mut self, list: &Path, addresses: &[AddressMatch]) {
        for (position, range) in addresses.iter().enumerate() {
            if range.first().is_ipv6() {
                self.no_ipv6(list.index(position), range);
            }
        }
    }

    fn interface_of_match(&mut self, path: Path, dev: Option<&str>) {
        if let Some(dev) = dev {
            self.known_dev(path, dev);
        }
    }

    /// Warns of rules whose packets all meet an earlier one.
    fn never_met<'r>(
        &mut self,
        path: &Path,
        rules: impl Iterator<Item = (&'r str, &'r Match)>,
        only: Option<&str>,
    ) {
        let mut earlier: Vec<(&str, Cover)> = Vec::new();
        for (name, matches) in rules {
            let cover = Cover::of(matches);
            let concerns = |other: &str| only.is_none_or(|only| only == name || only == other);
            if let Some((first, _)) =
                earlier.iter().find(|(other, all)| concerns(other) && all.covers(&cover))
            {
                let message =
                    format!("it never applies: `{first}` comes first and matches all of it");
                self.warn(&path.key(name), message);
            }
            earlier.push((name, cover));
        }
    }

    fn nat_timeouts(&mut self, path: &Path, timeouts: &NatTimeouts) {
        let NatTimeouts {
            tcp_syn,
            tcp_established,
            tcp_closing,
            tcp_closed,
            udp_oneway,
            udp,
            icmp,
        } = timeouts;
        for (key, timeout, least, rfc) in [
            ("tcp_syn", tcp_syn, TCP_TRANSITORY_MIN, "RFC 5382 REQ-5"),
            ("tcp_established", tcp_established, TCP_ESTABLISHED_MIN, "RFC 5382 REQ-5"),
            ("tcp_closing", tcp_closing, TCP_TRANSITORY_MIN, "RFC 5382 REQ-5"),
            ("tcp_closed", tcp_closed, TCP_TRANSITORY_MIN, "RFC 5382 REQ-5"),
            ("udp_oneway", udp_oneway, UDP_MIN, "RFC 4787 REQ-5"),
            ("udp", udp, UDP_MIN, "RFC 4787 REQ-5"),
            ("icmp", icmp, ICMP_MIN, "RFC 5508 REQ-2"),
        ] {
            self.timeout(path.key(key), *timeout);
            if !timeout.is_zero() && *timeout < least {
                let message = format!("{timeout} is less than the {least} of {rfc}");
                self.warn(&path.key(key), message);
            }
        }
    }
}

pub(crate) fn overlap(one: AddressRange, other: AddressRange) -> bool {
    one.contains(other.first()) || other.contains(one.first())
}
