//! What a configuration must hold beyond its form; all that is wrong is found at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::{ConfigError, ErrorKind, Path, Warning};
use crate::index::Index;
use crate::link::with_known;
use crate::named::check_name;
use crate::schema::{Active, Address, Config, Interface, Neighbour, Route, RouteType, Timeouts};
use crate::text::{Duration, Size};

/// The least memory that DPDK starts with.
const MEMORY_MIN: Size = Size::from_mib(32);
/// Milliseconds wrap after 49 days and are compared over half of that.
const TIMEOUT_MAX: Duration = Duration::from_secs(12 * 24 * 3600);
/// RFC 791: every link takes 68 bytes. The most is what NICs take.
const MTU: std::ops::RangeInclusive<u16> = 68..=9600;
/// RFC 8200 §5: every link of IPv6 takes so much.
const IPV6_MTU_MIN: u16 = 1280;
/// What NICs take.
const DESCRIPTORS: std::ops::RangeInclusive<u16> = 32..=32_768;
/// More warnings or errors than this help nobody.
const TOLD_MAX: usize = 100;

/// Collects what is wrong with a configuration or a part of it.
pub(crate) struct Checker<'a> {
    pub config: &'a Config,
    pub errors: Vec<ConfigError>,
    pub warnings: Vec<Warning>,
}

impl Config {
    /// Checks everything.
    ///
    /// # Errors
    /// All that is wrong, each with its path and value.
    pub fn validate(&self) -> Result<Vec<Warning>, Vec<ConfigError>> {
        self.indexed().map(|(_, warnings)| warnings)
    }

    /// Checks everything and gives the cross references.
    pub(crate) fn indexed(&self) -> Result<(Index, Vec<Warning>), Vec<ConfigError>> {
        let mut checker = Checker::new(self);
        let mut index = Index::default();
        checker.settings();
        for (name, interface) in &self.interfaces {
            checker.interface(name, interface);
        }
        checker.vlans();
        checker.devices_once();
        checker.knis_once();
        index.set_addresses(self);
        checker.network(&index);
        for (name, pool) in &self.local_address_pools {
            let path = Path::of("local_address_pools").key(name);
            if checker.pool(&path, pool, &index) {
                index.add_pool(&path.to_string(), pool);
            }
        }
        for (name, group) in &self.server_groups {
            checker.group(name, group);
        }
        for (name, service) in &self.services {
            if checker.service(name, service, &index) {
                index.add_service(name, service);
            }
        }
        checker.snat(&self.snat, &index, None);
        checker.dnat(&self.dnat, &index, None);
        checker.forwarding(&self.forwarding, None);
        checker.nat_log(&self.nat_log);
        index.set_wan_addresses(self);
        index.set_dnat(self);
        checker.finish().map(|warnings| (index, warnings))
    }
}

impl<'a> Checker<'a> {
    pub fn new(config: &'a Config) -> Self {
        Self { config, errors: Vec::new(), warnings: Vec::new() }
    }

    pub fn finish(mut self) -> Result<Vec<Warning>, Vec<ConfigError>> {
        if self.errors.is_empty() {
            self.warnings.truncate(TOLD_MAX);
            return Ok(self.warnings);
        }
        let left_out = self.errors.len().saturating_sub(TOLD_MAX);
        if left_out > 0 {
            self.errors.truncate(TOLD_MAX);
            let message = format!("{left_out} more errors are left out");
            self.errors.push(ConfigError::new(ErrorKind::Invalid, Path::root(), message));
        }
        Err(self.errors)
    }

    pub fn invalid(&mut self, path: Path, value: impl ToString, message: impl Into<String>) {
        self.errors.push(ConfigError::invalid(path, value, message));
    }

    pub fn conflict(&mut self, path: Path, value: impl ToString, message: impl Into<String>) {
        self.errors.push(ConfigError::conflict(path, value, message));
    }

    pub fn warn(&mut self, path: &Path, message: impl Into<String>) {
        if self.warnings.len() < TOLD_MAX {
            self.warnings.push(Warning::new(path, message));
        }
    }

    pub fn within<T: PartialOrd + Display + Copy>(
        &mut self,
        path: Path,
        value: T,
        low: T,
        high: T,
    ) {
        if value < low || value > high {
            self.invalid(path, value, format!("{value} is not from {low} to {high}"));
        }
    }

    pub fn name(&mut self, path: &Path, name: &str) {
        if let Err(why) = check_name(name) {
            self.invalid(path.clone(), name, why);
        }
    }

    fn settings(&mut self) {
        let config = self.config;
        if config.version != 1 {
            let message = format!("{} is not 1, the only version of the format", config.version);
            self.invalid(Path::of("version"), config.version, message);
        }
        if config.memory < MEMORY_MIN {
            let message =
                format!("{} is less than the {MEMORY_MIN} that DPDK needs", config.memory);
            self.invalid(Path::of("memory"), config.memory, message);
        }
        let conntrack = Path::of("conntrack");
        self.max_connections(&conntrack, &config.conntrack);
        self.default_timeouts(&conntrack.key("timeouts"), &config.conntrack.timeouts);
        if config.conntrack.rs_time_wait > TIMEOUT_MAX {
            self.timeout(conntrack.key("rs_time_wait"), config.conntrack.rs_time_wait);
        }
        if config.shutdown.drain > TIMEOUT_MAX {
            self.timeout(Path::of("shutdown").key("drain"), config.shutdown.drain);
        }
    }

    fn default_timeouts(&mut self, path: &Path, timeouts: &Timeouts) {
        let Timeouts { tcp_syn, tcp_established, tcp_closing, tcp_closed, udp_oneway, udp, icmp } =
            timeouts;
        for (key, timeout) in [
            ("tcp_syn", tcp_syn),
            ("tcp_established", tcp_established),
            ("tcp_closing", tcp_closing),
            ("tcp_closed", tcp_closed),
            ("udp_oneway", udp_oneway),
            ("udp", udp),
            ("icmp", icmp),
        ] {
            self.timeout(path.key(key), *timeout);
        }
    }

    /// A timeout must be some time, and at most 12 days.
    pub fn timeout(&mut self, path: Path, timeout: Duration) {
        if timeout.is_zero() {
            self.invalid(path, timeout, "0s is no timeout: it must be 1ms or more");
        } else if timeout > TIMEOUT_MAX {
            self.invalid(path, timeout, format!("{timeout} is more than {TIMEOUT_MAX}"));
        }
    }

    fn interface(&mut self, name: &str, interface: &Interface) {
        let path = Path::of("interfaces").key(name);
        self.interface_name(&path, name);
        match (&interface.pci, &interface.device) {
            (Some(pci), None) if !is_pci(pci) => {
                let message = format!("`{pci}` is not a PCI address such as 0000:81:00.0");
                self.invalid(path.key("pci"), pci, message);
            }
            (None, Some(device)) if device.trim().is_empty() => {
                self.invalid(path.key("device"), device, "the device string is empty");
            }
            (Some(_), Some(device)) => {
                let message = "an interface has either `pci` or `device`, not both";
                self.invalid(path.key("device"), device, message);
            }
            (None, None) => {
                self.invalid(path.clone(), name, "an interface needs `pci` or `device`");
            }
            _ => {}
        }
        let (low, high) = (*DESCRIPTORS.start(), *DESCRIPTORS.end());
        self.within(path.key("rx_descriptors"), interface.rx_descriptors, low, high);
        self.within(path.key("tx_descriptors"), interface.tx_descriptors, low, high);
        self.mtu(path.key("mtu"), interface.mtu);
        self.kni(&path, interface.kni.as_ref());
    }

    fn mtu(&mut self, path: Path, mtu: u16) {
        self.within(path, mtu, *MTU.start(), *MTU.end());
    }

    /// RFC 8200 §5: a link of a smaller MTU carries no IPv6.
    pub fn carries_ipv6(&mut self, path: &Path, dev: &str) {
        let link = self.config.vlans.get(dev).map_or(dev, |vlan| &vlan.link);
        let narrow = self.config.interfaces.get(link).map(|interface| interface.mtu);
        if let Some(mtu) = narrow.filter(|mtu| *mtu < IPV6_MTU_MIN) {
            let message =
                format!("`{dev}` has an MTU of {mtu}, and IPv6 needs {IPV6_MTU_MIN} at least");
            self.invalid(path.key("dev"), dev, message);
        }
    }

    /// No device can be two interfaces.
    fn devices_once(&mut self) {
        let mut seen = HashMap::new();
        for (name, interface) in &self.config.interfaces {
            let keys = [("pci", &interface.pci), ("device", &interface.device)];
            let Some((key, Some(device))) = keys.into_iter().find(|(_, value)| value.is_some())
            else {
                continue;
            };
            // A vdev is told from others by its name, before the first comma.
            let id = device.split(',').next().unwrap_or(device);
            if let Some(first) = seen.insert(id, name) {
                let message = format!("`{id}` is the device of interface `{first}` already");
                self.conflict(Path::of("interfaces").key(name).key(key), device, message);
            }
        }
    }

    /// In a network namespace there is one interface of a name.
    fn knis_once(&mut self) {
        let mut seen = HashMap::new();
        for (section, name, kni) in self.config.knis() {
            if let Some(first) = seen.insert((&kni.netns, &kni.name), name) {
                let message = format!("`{}` is the KNI of interface `{first}` already", kni.name);
                self.conflict(Path::of(section).key(name).key("kni"), &kni.name, message);
            }
        }
    }

    fn network(&mut self, index: &Index) {
        let config = self.config;
        let mut seen = HashSet::new();
        for (position, entry) in config.addresses.iter().enumerate() {
            let path = Path::of("addresses").index(position);
            self.address(&path, entry);
            let address = entry.address.address();
            // A link-local one may be on each interface.
            let on = is_link_local(address).then_some(&entry.dev);
            if !seen.insert((address, on)) {
                self.conflict(path.key("address"), address, format!("{address} is there twice"));
            }
        }
        let mut seen = HashSet::new();
        let links = Subnets::of(config);
        for (position, route) in config.routes.iter().enumerate() {
            let path = Path::of("routes").index(position);
            self.route(&path, route, &links, index);
            if !seen.insert((route.to, route.metric)) {
                let message = format!("there is a route to {} with this metric already", route.to);
                self.conflict(path.key("to"), route.to, message);
            }
        }
        let mut seen = HashSet::new();
        for (position, neighbour) in config.neighbours.iter().enumerate() {
            let path = Path::of("neighbours").index(position);
            self.neighbour(&path, neighbour);
            if !seen.insert((neighbour.address, &neighbour.dev)) {
                let message = format!("{} is there twice", neighbour.address);
                self.conflict(path.key("address"), neighbour.address, message);
            }
        }
    }

    pub fn address(&mut self, path: &Path, entry: &Address) {
        let net = entry.address.net();
        let at = path.key("address");
        if self.unicast(&at, net.addr())
            && net.addr().is_ipv4()
            && net.prefix_len() < 31
            && (net.addr() == net.network() || net.addr() == net.broadcast())
        {
            let which = if net.addr() == net.network() { "network" } else { "broadcast" };
            let message = format!("{net} is the {which} address of its subnet, not a host's");
            self.invalid(at, net, message);
        }
        self.dev(path, &entry.dev);
        if net.addr().is_ipv6() {
            self.carries_ipv6(path, &entry.dev);
        }
        let has_kni = || self.config.knis().any(|(_, name, _)| name == entry.dev);
        if entry.active == Active::WithKernel && self.config.has_dev(&entry.dev) && !has_kni() {
            let message =
                format!("the kernel holds no address on `{}`, which has no KNI", entry.dev);
            let error = ConfigError::invalid(path.key("active"), "with-kernel", message);
            let section = self.config.section_of(&entry.dev);
            let hint = format!("set `{section}.{0}.kni: {0}.kni`", entry.dev);
            self.errors.push(error.hint(hint));
        }
    }

    pub fn route(&mut self, path: &Path, route: &Route, links: &Subnets<'_>, index: &Index) {
        let to = route.to.address();
        if to.is_multicast() {
            let message = format!("{} is multicast, which is not forwarded", route.to);
            self.invalid(path.key("to"), route.to, message);
        } else if is_link_local(to) {
            let message = format!("{} is link-local: it is on every link by itself", route.to);
            self.invalid(path.key("to"), route.to, message);
        }
        self.dev(path, &route.dev);
        for (key, address) in [("via", route.via), ("src", route.src)] {
            if let Some(address) = address.filter(|address| address.is_ipv4() != to.is_ipv4()) {
                let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
                let message = format!("{address} is not of {family}, as {} is", route.to);
                self.invalid(path.key(key), address, message);
                return;
            }
        }
        if let Some(via) = route.via
            && self.unicast(&path.key("via"), via)
        {
            if index.is_configured(via) || self.has_link_local(&route.dev, via) {
                self.invalid(path.key("via"), via, format!("{via} is an address of ours"));
            } else if !is_link_local(via) && !links.reach(&route.dev, via) {
                let message = format!("{via} is in no subnet of the addresses of `{}`", route.dev);
                self.warn(&path.key("via"), message);
            }
        }
        if let (RouteType::Local, Some(via)) = (route.route_type, route.via) {
            let message = "a local route leads to ourselves: it has no router".to_owned();
            self.invalid(path.key("via"), via, message);
        }
        if let Some(src) = route.src
            && self.unicast(&path.key("src"), src)
            && !index.is_configured(src)
        {
            self.invalid(path.key("src"), src, format!("{src} is none of `addresses`"));
        }
        if let Some(mtu) = route.mtu {
            let least = if to.is_ipv4() { *MTU.start() } else { IPV6_MTU_MIN };
            self.within(path.key("mtu"), mtu, least, *MTU.end());
        }
    }

    pub fn neighbour(&mut self, path: &Path, neighbour: &Neighbour) {
        self.unicast(&path.key("address"), neighbour.address);
        if neighbour.mac.is_multicast() || neighbour.mac.is_zero() {
            let message = format!("{} is no station's Ethernet address", neighbour.mac);
            self.invalid(path.key("mac"), neighbour.mac, message);
        }
        self.dev(path, &neighbour.dev);
    }

    /// True if an interface has this link-local address.
    fn has_link_local(&self, dev: &str, address: IpAddr) -> bool {
        let has = |entry: &Address| entry.dev == dev && entry.address.address() == address;
        is_link_local(address) && self.config.addresses.iter().any(has)
    }

    /// True if `address` is one that a host may have; else an error is noted.
    pub fn unicast(&mut self, path: &Path, address: IpAddr) -> bool {
        let Some(what) = not_a_hosts(address) else { return true };
        self.invalid(path.clone(), address, format!("{address} is {what}, not a host's"));
        false
    }

    /// True if `address` is an IPv4 address that a host may have; else an error is noted.
    pub fn unicast_v4(&mut self, path: &Path, address: IpAddr) -> bool {
        if address.is_ipv6() {
            self.no_ipv6(path.clone(), address);
            return false;
        }
        self.unicast(path, address)
    }

    pub fn no_ipv6(&mut self, path: Path, value: impl Display) {
        let message = format!("{value}: IPv6 is not supported here by this version");
        self.invalid(path, value, message);
    }

    /// The interface that `path` has as `dev` must be there.
    pub fn dev(&mut self, path: &Path, dev: &str) {
        self.known_dev(path.key("dev"), dev);
    }

    /// What `path` names must be an interface, of whatever kind.
    pub fn known_dev(&mut self, path: Path, dev: &str) {
        if self.config.has_dev(dev) {
            return;
        }
        let error = ConfigError::invalid(path, dev, format!("there is no interface `{dev}`"));
        self.errors.push(with_known(error, dev, self.config.devs()));
    }

    /// What `path` names must be in `known`.
    pub fn reference<T>(
        &mut self,
        path: Path,
        what: &str,
        name: &str,
        known: &BTreeMap<String, T>,
    ) -> bool {
        let found = known.contains_key(name);
        if !found {
            let error = ConfigError::invalid(path, name, format!("there is no {what} `{name}`"));
            self.errors.push(with_known(error, name, known.keys().map(String::as_str)));
        }
        found
    }
}

/// What an address is that no host can have.
fn not_a_hosts(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_multicast() => Some("a multicast address"),
        _ if address.is_loopback() => Some("a loopback address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("an address of \"this network\" (0.0.0.0/8)"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("the unspecified address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("an IPv4 address in IPv6 form"),
        _ => None,
    }
}

/// True for an address that is another station's on each link (fe80::/10).
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// `0000:81:00.0` or `81:00.0`.
fn is_pci(text: &str) -> bool {
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let (domain, rest) = match text.matches(':').count() {
        2 => text.split_once(':').unwrap_or(("", text)),
        _ => ("0000", text),
    };
    let Some((bus, slot)) = rest.split_once(':') else { return false };
    let Some((device, function)) = slot.split_once('.') else { return false };
    hex(domain, 4) && hex(bus, 2) && hex(device, 2) && matches!(function.as_bytes(), [b'0'..=b'7'])
}

/// The subnets that are on each interface's link.
pub(crate) struct Subnets<'a>(HashMap<&'a str, Vec<IpNet>>);

impl<'a> Subnets<'a> {
    pub fn of(config: &'a Config) -> Self {
        let mut subnets: HashMap<&str, Vec<IpNet>> = HashMap::new();
        for entry in &config.addresses {
            let net = entry.address.net();
            if net.prefix_len() < net.max_prefix_len() {
                subnets.entry(&entry.dev).or_default().push(net);
            }
        }
        for route in config.routes.iter().filter(|route| route.via.is_none()) {
            subnets.entry(&route.dev).or_default().push(route.to.net());
        }
        Self(subnets)
    }

    /// True if `address` is on the link of `dev`.
    pub fn reach(&self, dev: &str, address: IpAddr) -> bool {
        self.0.get(dev).is_some_and(|nets| nets.iter().any(|net| net.contains(&address)))
    }

    /// The interface whose link has `address` in its longest prefix; none if there are two.
    pub fn dev_of(&self, address: IpAddr) -> Option<&'a str> {
        let (mut best, mut tie) = (None::<(u8, &str)>, false);
        for (dev, nets) in &self.0 {
            for net in nets.iter().filter(|net| net.contains(&address)) {
                match best {
                    Some((len, _)) if len > net.prefix_len() => {}
                    Some((len, other)) if len == net.prefix_len() => tie |= other != *dev,
                    _ => (best, tie) = (Some((net.prefix_len(), *dev)), false),
                }
            }
        }
        best.filter(|_| !tie).map(|(_, dev)| dev)
    }
}
