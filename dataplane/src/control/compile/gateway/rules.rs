//! From the configuration's rules to what a gateway is made of: numbers instead of names.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use config::{
    Active, AddressMatch, Admin, ConfigError, DnatRule, EndpointRange, ForwardingAction, Match,
    Path, PortRange, SnatAction, SnatRule, WanAddresses,
};
use flow::Refresh;
use nat::gateway::{
    Filtering, MappingKind, MssClamp, OnExhausted, Pooling, Settings, SourceAddress, Wan, WanSource,
};
use nat::rules::{Action, Match as Matching};
use nat::subscribers::Limits;
use pool::wan::Order;
use types::EthPortId;

use super::super::Facts;
use super::super::network::v4;

/// A range of IPv4 addresses in host order; validation has seen to it that they are.
fn addresses(range: &AddressMatch, path: &Path) -> Result<RangeInclusive<u32>, ConfigError> {
    Ok(v4(range.first(), || path.clone())?..=v4(range.last(), || path.clone())?)
}

/// Ranges of addresses in host order.
///
/// # Errors
/// If one is of no IPv4 addresses.
pub fn ranges(list: &[AddressMatch], path: &Path) -> Result<Vec<RangeInclusive<u32>>, ConfigError> {
    list.iter().enumerate().map(|(n, range)| addresses(range, &path.index(n))).collect()
}

pub fn ports(range: PortRange) -> RangeInclusive<u16> {
    range.first()..=range.last()
}

/// What a rule asks, and what it excepts.
///
/// # Errors
/// If an interface is not there, or an address is no IPv4 address.
pub fn matching(
    matches: &Match,
    facts: &Facts,
    path: &Path,
) -> Result<(Matching, Matching), ConfigError> {
    let device = |name: &Option<String>, key: &str| -> Result<Option<EthPortId>, ConfigError> {
        name.as_ref().map(|name| facts.interface(name, || path.key(key))).transpose()
    };
    let all_ports = |list: &[PortRange]| list.iter().copied().map(ports).collect();
    let Match { source, destination, protocol, source_ports, destination_ports, .. } = matches;
    let asked = Matching {
        sources: ranges(source, &path.key("source"))?,
        destinations: ranges(destination, &path.key("destination"))?,
        protocols: protocol.iter().map(|protocol| protocol.number()).collect(),
        source_ports: all_ports(source_ports),
        destination_ports: all_ports(destination_ports),
        in_dev: device(&matches.in_dev, "in_dev")?,
        out_dev: device(&matches.out_dev, "out_dev")?,
    };
    let (except, path) = (&matches.except, path.key("except"));
    let excepted = Matching {
        sources: ranges(&except.source, &path.key("source"))?,
        destinations: ranges(&except.destination, &path.key("destination"))?,
        protocols: except.protocol.iter().map(|protocol| protocol.number()).collect(),
        source_ports: all_ports(&except.source_ports),
        destination_ports: all_ports(&except.destination_ports),
        in_dev: None,
        out_dev: None,
    };
    Ok((asked, excepted))
}

pub const fn snat_action(action: SnatAction) -> Action {
    match action {
        SnatAction::Translate => Action::Translate,
        SnatAction::Accept => Action::Accept,
        SnatAction::Drop => Action::Drop,
    }
}

pub const fn forwarding_action(action: ForwardingAction) -> Action {
    match action {
        ForwardingAction::Accept => Action::Accept,
        ForwardingAction::Drop => Action::Drop,
        ForwardingAction::Reject => Action::Reject,
    }
}

/// A WAN IP as it is configured, with the interface that it belongs to if it is the interface's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configured {
    pub address: u32,
    pub iface: Option<EthPortId>,
    pub weight: u16,
    pub draining: bool,
    pub withheld: bool,
}

impl Configured {
    pub fn new(address: u32, withheld: &BTreeSet<u32>) -> Self {
        let withheld = withheld.contains(&address);
        Self { address, iface: None, weight: 1, draining: false, withheld }
    }
}

/// Addresses that are active with the kernel, and that the kernel does not hold now.
pub fn withheld(config: &config::Config, facts: &Facts) -> BTreeSet<u32> {
    let with_kernel = config.addresses.iter().filter(|entry| entry.active == Active::WithKernel);
    let withheld = with_kernel.filter_map(|entry| {
        let dev = facts.interface(&entry.dev, Path::root).ok()?;
        match entry.address.address() {
            IpAddr::V4(address) if !facts.kernel.holds(dev, address.to_bits()) => {
                Some(address.to_bits())
            }
            _ => None,
        }
    });
    withheld.collect()
}

/// The WAN IPs of a rule, each once.
///
/// # Errors
/// If an interface is not there, or an address is no IPv4 address.
pub fn wans(
    (config, rule): (&config::Config, &SnatRule),
    facts: &Facts,
    withheld: &BTreeSet<u32>,
    path: &Path,
) -> Result<Vec<Configured>, ConfigError> {
    if rule.action != SnatAction::Translate {
        return Ok(Vec::new());
    }
    let mut wans: Vec<Configured> = Vec::new();
    match &rule.wan_addresses {
        WanAddresses::Pool(ranges) => {
            for (n, range) in ranges.iter().enumerate() {
                let draining = range.admin != Admin::Enabled;
                for address in range.address.addresses() {
                    let address = v4(address, || path.key("wan_addresses").index(n))?;
                    let wan = Configured::new(address, withheld);
                    wans.push(Configured { weight: range.weight, draining, ..wan });
                }
            }
            wans.sort_by_key(|wan| wan.address);
            wans.dedup_by_key(|wan| wan.address);
        }
        WanAddresses::Interface => {
            let out_dev = rule.matches.out_dev.as_deref();
            for (interface, id) in facts.interfaces.iter().zip(0..) {
                let wanted = out_dev.is_none_or(|dev| dev == &*interface.name);
                let primary = config.primary_address(&interface.name).filter(|_| wanted);
                if let Some(IpAddr::V4(address)) = primary {
                    let iface = Some(EthPortId(id));
                    let wan = Configured::new(address.to_bits(), withheld);
                    wans.push(Configured { iface, ..wan });
                }
            }
        }
    }
    Ok(wans)
}

/// Where a rule's WAN IPs come from, at their places.
pub fn wan_source(wans: &[Configured], place: impl Fn(u32) -> Option<u16>) -> WanSource {
    let placed = |wan: &Configured| {
        let Configured { address, weight, draining, withheld, .. } = *wan;
        Some(Wan { place: place(address)?, address, weight, draining, withheld })
    };
    if wans.iter().any(|wan| wan.iface.is_some()) {
        let of_device = |wan: &Configured| Some((wan.iface?, placed(wan)?));
        WanSource::Interface(wans.iter().filter_map(of_device).collect())
    } else {
        WanSource::Addresses(wans.iter().filter_map(placed).collect())
    }
}

pub const fn refresh(configured: config::Refresh) -> Refresh {
    match configured {
        config::Refresh::Both => Refresh::Both,
        config::Refresh::Outbound => Refresh::Outbound,
    }
}

pub const fn mapping(configured: config::Mapping) -> MappingKind {
    match configured {
        config::Mapping::EndpointIndependent => MappingKind::EndpointIndependent,
        config::Mapping::AddressAndPortDependent => MappingKind::AddressAndPortDependent,
    }
}

/// What a rule says of the conns that it translates.
pub fn settings(rule: &SnatRule, wans: WanSource, timeout_class: u8) -> Settings {
    Settings {
        wans,
        mapping: mapping(rule.mapping),
        filtering: match rule.filtering {
            config::Filtering::EndpointIndependent => Filtering::EndpointIndependent,
            config::Filtering::AddressDependent => Filtering::AddressDependent,
            config::Filtering::AddressAndPortDependent => Filtering::AddressAndPortDependent,
        },
        pooling: match rule.pooling {
            config::Pooling::Paired => Pooling::Paired,
            config::Pooling::Arbitrary => Pooling::Arbitrary,
        },
        order: match rule.port_selection {
            config::PortSelection::Random => Order::Random,
            config::PortSelection::Sequential => Order::Sequential,
        },
        l4_ports: ports(rule.ports),
        keep_parity: rule.preserve_parity,
        keep_range: rule.ports.first() < 1024,
        rest_ms: u32::try_from(rule.port_rest.as_ms()).unwrap_or(u32::MAX),
        limits: Limits {
            ports: rule.limits.ports,
            sessions: rule.limits.sessions,
            new_sessions_per_second: rule.limits.new_sessions_per_second,
        },
        on_exhausted: match rule.on_exhausted {
            config::OnExhausted::Drop => OnExhausted::Drop,
            config::OnExhausted::Icmp => OnExhausted::Prohibited,
        },
        mss_clamp: match rule.mss_clamp {
            config::MssClamp::Off => MssClamp::Off,
            config::MssClamp::Path => MssClamp::Path,
            config::MssClamp::Bytes(bytes) => MssClamp::Bytes(bytes),
        },
        hairpin: rule.hairpin,
        timeout_class,
    }
}

pub const fn source_address(rule: &DnatRule) -> SourceAddress {
    match rule.source_address {
        config::SourceAddress::Auto => SourceAddress::Auto,
        config::SourceAddress::Keep => SourceAddress::Keep,
        config::SourceAddress::Translate => SourceAddress::Translate,
    }
}

/// Address in host order and ports of a range of endpoints.
///
/// # Errors
/// If it is no IPv4 address.
pub fn endpoints(
    range: EndpointRange,
    path: &Path,
) -> Result<(u32, RangeInclusive<u16>), ConfigError> {
    Ok((v4(range.address, || path.clone())?, ports(range.ports)))
}
