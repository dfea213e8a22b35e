//! What the outside addresses of NAT must hold, and where port forwards lead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::dnat::DnatRule;
use crate::error::{ConfigError, Path};
use crate::index::Index;
use crate::matching::IpProtocol;
use crate::named::Ordered;
use crate::schema::Config;
use crate::service::{Admin, Protocol};
use crate::snat::{PortSelection, SnatAction, SnatRule, WanAddresses, WanRange};
use crate::text::{AddressRange, Duration};
use crate::validate::Checker;
use crate::validate_nat::overlap;
use crate::validate_service::POOL_MAX;

/// How long a port rests if nothing is said (RFC 6888 REQ-8).
const PORT_REST: Duration = Duration::from_secs(120);

impl Checker<'_> {
    /// The outside addresses of a rule.
    pub fn wan_pool(
        &mut self,
        list: &Path,
        ranges: &[WanRange],
        out_dev: Option<&str>,
        index: &Index,
    ) {
        let count = ranges.iter().fold(0u128, |sum, r| sum.saturating_add(r.address.count()));
        if count > POOL_MAX {
            let message = format!("{count} addresses are more than the {POOL_MAX} of a pool");
            self.invalid(list.clone(), count, message);
            return;
        }
        let mut missing: Option<IpAddr> = None;
        for (position, range) in ranges.iter().enumerate() {
            let path = list.index(position);
            let (first, last) = (range.address.first(), range.address.last());
            if !self.unicast_v4(&path, first) || (first != last && !self.unicast_v4(&path, last)) {
                continue;
            }
            let mut before = ranges.iter().take(position).map(|range| range.address);
            if let Some(twice) = before.find(|other| overlap(*other, range.address)) {
                let address = first.max(twice.first());
                self.conflict(path.clone(), address, format!("{address} is there twice"));
            }
            self.no_broadcast(&path, range.address, out_dev);
            self.of_node(&path, range.address);
            for address in range.address.addresses() {
                self.wan_address(&path, address, index);
                if !index.is_configured(address) {
                    missing = missing.or(Some(address));
                }
            }
        }
        if let Some(address) = missing {
            let message =
                format!("no interface answers ARP for {address}: it is none of `addresses`");
            self.warn(list, message);
        }
        let takes = |range: &WanRange| range.weight != 0 && range.admin == Admin::Enabled;
        if ranges.iter().all(|range| range.weight == 0) {
            self.warn(list, "every weight is 0: there are no new mappings");
        } else if !ranges.iter().any(takes) {
            self.warn(
                list,
                "every address is drained, disabled or of weight 0: there are no new mappings",
            );
        }
    }

    /// What a WAN IP must not be besides: whose packet it is would not be known.
    fn wan_address(&mut self, path: &Path, address: IpAddr, index: &Index) {
        if index.is_vip(address) {
            let message = format!("{address} is a VIP: it cannot be a WAN IP too");
            let error = ConfigError::conflict(path.clone(), address, message);
            self.errors.push(error.hint("give the service or the rule an address of its own"));
        }
        if let Some(lip) = index.lip(address) {
            let message = format!("{address} is a LIP of {}: it cannot be a WAN IP too", lip.owner);
            let error = ConfigError::conflict(path.clone(), address, message);
            self.errors.push(error.hint("take it out of the pool, or take another WAN IP"));
        }
    }

    /// The addresses that interfaces have, as a rule's outside ones.
    pub fn masquerade(&mut self, path: &Path, rule: &SnatRule, index: &Index) {
        for range in self.config.wan_ranges(rule) {
            self.wan_address(path, range.first(), index);
        }
        let config = self.config;
        if rule.matches.out_dev.is_none()
            && config.devs().all(|dev| config.primary_address(dev).is_none())
        {
            let message = "no interface has an address now: nothing is translated until one \
                           gets one, as by `dpctl address add`";
            self.warn(path, message);
            return;
        }
        for dev in ways_out(config, rule) {
            let Some(address) = config.primary_address(dev) else {
                let message = format!(
                    "`{dev}` has no address now: nothing is translated until it gets one, as by \
                     `dpctl address add`"
                );
                self.warn(path, message);
                continue;
            };
            if config.knis().any(|(_, name, _)| name == dev) {
                self.taken_from_node(path, address, dev);
            }
        }
    }

    /// Masquerade takes what interfaces have: all rules that do are to hold after their addresses have changed.
    pub fn masquerades(&mut self, index: &Index) {
        let config = self.config;
        for (name, rule) in &config.snat {
            if rule.wan_addresses == WanAddresses::Interface {
                self.masquerade(&Path::of("snat").key(name).key("wan_addresses"), rule, index);
                self.one_kind_of_mapping(&config.snat, Some(name));
            }
        }
    }

    /// Warns of a range that has an interface's own address, if the kernel has an interface there, too.
    pub fn of_node(&mut self, path: &Path, range: AddressRange) {
        let config = self.config;
        for (_, dev, _) in config.knis() {
            let own = config.addresses.iter().filter(|entry| entry.dev == dev);
            let own =
                own.map(|entry| entry.address).filter(|own| own.prefix_len() < u32::BITS as u8);
            for address in own.map(|own| own.address()).filter(|own| range.contains(*own)) {
                self.taken_from_node(path, address, dev);
            }
        }
    }

    fn taken_from_node(&mut self, path: &Path, address: IpAddr, dev: &str) {
        let message = format!(
            "{address} of `{dev}`, which has a KNI, is a WAN IP: what comes to it for the node itself, such as ssh and \
             answers to its DNS and NTP, is dropped; give the node another address, or take another one here"
        );
        self.warn(path, message);
    }

    /// An address that is the first or last one of a subnet on its own link is no host's: nobody could answer it.
    /// Without an interface of its own, or one that the rule names, it may be on any link.
    pub fn no_broadcast(&mut self, path: &Path, range: AddressRange, out_dev: Option<&str>) {
        let config = self.config;
        for entry in &config.addresses {
            let net = entry.address.net();
            if net.addr().is_ipv6() || net.prefix_len() > 30 {
                continue;
            }
            for (which, address) in [("network", net.network()), ("broadcast", net.broadcast())] {
                let own = config.addresses.iter().find(|own| own.address.address() == address);
                let dev = own.map(|own| own.dev.as_str()).or(out_dev);
                if range.contains(address) && dev.is_none_or(|dev| dev == entry.dev) {
                    let subnet = net.trunc();
                    let message = format!(
                        "{address} is the {which} address of {subnet} on `{}`, not a host's",
                        entry.dev
                    );
                    let error = ConfigError::invalid(path.clone(), address, message);
                    self.errors.push(error.hint("take another address"));
                    return;
                }
            }
        }
    }

    /// What a port forward leads to must be somebody else's: what is to an address of ours is not routed.
    pub fn not_ours(&mut self, path: &Path, address: IpAddr, index: &Index) {
        let whose = if index.is_configured(address) {
            "an address of our own"
        } else if index.is_vip(address) {
            "a VIP of ours"
        } else if index.lip(address).is_some() {
            "a LIP of ours"
        } else if index.wan_owner(address).is_some() {
            "a WAN IP of ours"
        } else {
            return;
        };
        let message = format!("{address} is {whose}, and no server's");
        let error = ConfigError::invalid(path.clone(), address, message);
        self.errors.push(error.hint("name the server itself"));
    }

    /// Keys that mean nothing for ports that serve one remote each: those go round, and are free again at once.
    pub fn without_effect(&mut self, path: &Path, rule: &SnatRule) {
        let random = rule.port_selection == PortSelection::Random;
        let rests = rule.port_rest != PORT_REST && !rule.port_rest.is_zero();
        for (key, value, set) in [
            ("port_rest", rule.port_rest.to_string(), rests),
            ("port_selection", "sequential".to_owned(), !random),
            ("preserve_parity", "true".to_owned(), rule.preserve_parity),
        ] {
            if set {
                let message = format!(
                    "`{key}: {value}` has no effect with a mapping that is address-and-port-dependent: leave it out, or \
                     take `mapping: endpoint-independent`"
                );
                self.warn(&path.key(key), message);
            }
        }
    }

    /// Warns of rules whose ports of a WAN IP all lead inside: of `only` that rule, or of those that the port forward
    /// `forward` concerns.
    pub fn ports_left(
        &mut self,
        (rules, forwards): (&Ordered<SnatRule>, &BTreeMap<String, Arc<DnatRule>>),
        only: Option<&str>,
        forward: Option<&str>,
    ) {
        let config = self.config;
        let all = |dnat: &DnatRule, rule: &SnatRule| {
            dnat.on.ports.first() <= rule.ports.first() && rule.ports.last() <= dnat.on.ports.last()
        };
        for (name, rule) in rules {
            if only.is_some_and(|only| only != name) || rule.action != SnatAction::Translate {
                continue;
            }
            let ranges = config.wan_ranges(rule);
            for (other, dnat) in forwards {
                let proto = match dnat.protocol {
                    Protocol::Tcp => IpProtocol::TCP,
                    Protocol::Udp => IpProtocol::UDP,
                };
                let protocols = &rule.matches.protocol;
                let address = dnat.on.address;
                if forward.is_none_or(|forward| forward == other)
                    && (protocols.is_empty() || protocols.contains(&proto))
                    && ranges.iter().any(|range| range.contains(address))
                    && all(dnat, rule)
                {
                    let message = format!(
                        "`dnat.{other}` has all {} ports {} of {address}: nothing is translated to it; give the rule \
                         other ports, or lead fewer inside",
                        dnat.protocol, rule.ports
                    );
                    self.warn(&Path::of("snat").key(name).key("ports"), message);
                }
            }
        }
    }
}

/// The interfaces that packets of a masquerading rule leave by: the one that it names, or those of default routes.
fn ways_out<'a>(config: &'a Config, rule: &'a SnatRule) -> Vec<&'a str> {
    let default = config
        .routes
        .iter()
        .filter(|route| route.to.prefix_len() == 0 && route.to.address().is_ipv4());
    let devs: BTreeSet<&str> = match &rule.matches.out_dev {
        Some(dev) => [dev.as_str()].into(),
        None => default.map(|route| route.dev.as_str()).collect(),
    };
    devs.into_iter().filter(|dev| config.has_dev(dev)).collect()
}
