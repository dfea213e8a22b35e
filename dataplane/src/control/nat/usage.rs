//! What of NAT is in use: mappings by pages, what an inside address has, ports of WAN IPs.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use api::{
    ErrorBody, ErrorCode, MappingInfo, MappingPage, MappingQuery, SubscriberInfo, SubscriberUsage,
    WanAddressInfo, WanPortUsage,
};
use config::{Admin, Model, Pooling, PortRange, WanAddresses};
use nat::mapping::{Endpoint32, Mapping, Mappings};
use nat::subscribers::Subscriber;
use steer::Role;
use types::{Endpoint, FlowKey, Now, Proto, Slot, WorkerId};

use crate::control::compile::{GatewayNames, RuleKind, RuleName, WanName};
use crate::control::connections::Place;
use crate::control::rules::no_rule;
use crate::control::{Control, Reply, State};
use crate::worker::link::{ITEMS_MAX, Scan, ScanAction};
use crate::worker::nat::{MappingFilter, PROTOS, Reading, WanUsage};

/// Mappings that one scan brings back at a time.
const MAPPINGS: usize = 256;

impl Control {
    /// Mappings, a page at a time.
    ///
    /// # Errors
    /// If the cursor is none, there is no such rule, or a worker does not answer.
    pub async fn mappings(&self, query: MappingQuery) -> Reply<MappingPage> {
        let filter = self.state().mapping_filter(&query)?;
        let limit = query.limit.unwrap_or(MappingQuery::LIMIT_DEFAULT);
        let limit = limit.clamp(1, MappingQuery::LIMIT_MAX) as usize;
        let mut at = Place::read(query.cursor.as_deref())?;
        let mut page = MappingPage::default();
        let workers = self.state().workers.len() as u16;
        while at.worker < workers && page.mappings.len() < limit {
            let scan = Scan {
                action: ScanAction::Mappings(filter),
                cursor: at.cursor,
                mappings: Vec::with_capacity((limit - page.mappings.len()).min(MAPPINGS)),
                ..Scan::default()
            };
            let scan = self.scan(WorkerId(at.worker), Box::new(scan)).await?;
            let (names, now) = {
                let state = self.state();
                (Arc::clone(&state.gateway_names), state.clock.now())
            };
            let found = scan.mappings.iter();
            page.mappings
                .extend(found.filter_map(|mapping| mapping_info(mapping, &names, at.worker, now)));
            at = match scan.finished {
                true => Place::start(at.worker + 1),
                false => Place { worker: at.worker, cursor: scan.cursor, wide: false },
            };
        }
        page.next = (at.worker < workers).then(|| at.write());
        Ok(page)
    }

    /// What an inside address has of each rule. The worker that owns it knows; of protocols without ports, and of what
    /// came from another node, others may have some, too.
    ///
    /// # Errors
    /// If it is no IPv4 address, or a worker does not answer.
    pub async fn subscriber(&self, address: IpAddr) -> Reply<SubscriberInfo> {
        let inside = v4("address", address)?;
        let (worker, slots) = {
            let state = self.state();
            let key = FlowKey { src: inside, ..FlowKey::default() };
            let worker = state.snapshot.steering.owner(Role::Source, &key);
            let slots: Vec<Slot> = rules_with_conns(&state.gateway_names).collect();
            (worker, slots)
        };
        let mut found: BTreeMap<Slot, Subscriber> = BTreeMap::new();
        for slots in slots.chunks(ITEMS_MAX) {
            let usage = || slots.iter().map(|slot| (*slot, None)).collect();
            let reading = || Reading { subscriber: inside, usage: usage(), ..Reading::default() };
            let mut readings = self.read_nat(reading).await?;
            // Its own worker's goes first: that one has its WAN IP and what it may open.
            let own = usize::from(worker.0).min(readings.len());
            readings.rotate_left(own);
            for (slot, more) in readings.into_iter().flat_map(|reading| reading.usage) {
                let Some(more) = more else { continue };
                let add = |sum: &mut Subscriber| {
                    sum.ports += more.ports;
                    sum.sessions += more.sessions;
                };
                found.entry(slot).and_modify(add).or_insert(more);
            }
        }
        let state = self.state();
        let now = state.clock.now();
        let usage = found.values().filter_map(|found| state.usage_of(found, now)).collect();
        Ok(SubscriberInfo { address, worker: worker.0, usage })
    }

    /// WAN IPs and how many of their ports are taken.
    ///
    /// # Errors
    /// If a worker does not answer.
    pub async fn wan_addresses(&self) -> Reply<Vec<WanAddressInfo>> {
        let (config, names, snapshot) = {
            let state = self.state();
            let names = Arc::clone(&state.gateway_names);
            (Arc::clone(&state.config), names, Arc::clone(&state.snapshot))
        };
        let usage = self.wan_usage(&names).await?;
        let info = |wan: &WanName| WanAddressInfo {
            absent: !wan.rules.is_empty() && snapshot.fib.owner(wan.address).is_none(),
            ..wan_info(wan, &config, usage.get(&wan.place))
        };
        Ok(names.wans().map(info).collect())
    }

    /// The ports of all WAN IPs by their places, over all workers.
    pub(super) async fn wan_usage(
        &self,
        names: &GatewayNames,
    ) -> Reply<HashMap<u16, [WanUsage; PROTOS.len()]>> {
        let places: Vec<u16> = names.wans().map(|wan| wan.place).collect();
        let mut sum: HashMap<u16, [WanUsage; PROTOS.len()]> = HashMap::new();
        for places in places.chunks(ITEMS_MAX) {
            let wans = || places.iter().map(|place| (*place, Default::default())).collect();
            let reading = || Reading { wans: wans(), ..Reading::default() };
            for reading in self.read_nat(reading).await? {
                for (place, ports) in reading.wans {
                    let sums = sum.entry(place).or_default();
                    sums.iter_mut().zip(ports).for_each(|(sum, ports)| *sum += ports);
                }
            }
        }
        let config = Arc::clone(&self.state().config);
        for wan in names.wans() {
            let Some(ports) = sum.get_mut(&wan.place) else { continue };
            for (proto, usage) in PROTOS.iter().zip(ports) {
                let most = takeable(wan, &config, *proto).unwrap_or(u32::MAX);
                usage.capacity = usage.capacity.min(most);
            }
        }
        Ok(sum)
    }
}

/// Ports of a WAN IP that its rules take mappings from, without those that lead inside; `None` if it has no rule
/// but port forwards.
fn takeable(wan: &WanName, config: &Model, proto: Proto) -> Option<u32> {
    let rules = wan.rules.iter().filter(|rule| rule.kind == RuleKind::Snat);
    let ranges: Vec<PortRange> =
        rules.filter_map(|rule| config.snat.get(&*rule.name)).map(|rule| rule.ports).collect();
    let address = IpAddr::V4(wan.address.into());
    let forwards = config.dnat.values();
    let forwards: Vec<PortRange> = forwards
        .filter(|rule| rule.on.address == address && Proto::from(rule.protocol) == proto)
        .map(|rule| rule.on.ports)
        .collect();
    let taken = merged(&ranges);
    let kept = merged(&forwards);
    let count = |(first, last): (u32, u32)| (last + 1).saturating_sub(first);
    let all: u32 = taken.iter().copied().map(count).sum();
    let common = |a: &(u32, u32), b: &(u32, u32)| count((a.0.max(b.0), a.1.min(b.1)));
    let within = taken.iter().flat_map(|range| kept.iter().map(move |kept| common(range, kept)));
    (!ranges.is_empty()).then(|| all - within.sum::<u32>())
}

/// Ranges in order that neither overlap nor touch.
fn merged(ranges: &[PortRange]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> =
        ranges.iter().map(|range| (range.first().into(), range.last().into())).collect();
    ranges.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

impl State {
    fn mapping_filter(&self, query: &MappingQuery) -> Reply<MappingFilter> {
        let slot = |name: &String| {
            let slot = self.gateway_names.slot(RuleKind::Snat, name);
            slot.ok_or_else(|| no_rule("snat", name))
        };
        Ok(MappingFilter {
            rule: query.rule.as_ref().map(slot).transpose()?,
            inside: query.inside.map(|address| v4("inside", address)).transpose()?,
            outside: query.outside.map(|address| v4("outside", address)).transpose()?,
            proto: query.protocol,
        })
    }

    /// What a subscriber has, as the API has it; `None` if its rule is gone.
    fn usage_of(&self, subscriber: &Subscriber, now: Now) -> Option<SubscriberUsage> {
        let RuleName { kind, name } = self.gateway_names.rule(subscriber.rule)?;
        let rule = self.config.snat.get(&**name).filter(|_| *kind == RuleKind::Snat);
        let limits = rule.map(|rule| rule.limits.clone()).unwrap_or_default();
        let paired = rule.is_some_and(|rule| rule.pooling == Pooling::Paired);
        let mut wans = self.gateway_names.wans();
        let wan = wans.find(|wan| wan.place == subscriber.place);
        let wan = wan.filter(|_| paired && subscriber.ports > 0);
        let per_second = limits.new_sessions_per_second;
        Some(SubscriberUsage {
            rule: name.to_string(),
            wan_address: wan.map(|wan| Ipv4Addr::from(wan.address).into()),
            ports: subscriber.ports,
            sessions: subscriber.sessions,
            new_sessions_left: (per_second != 0)
                .then(|| subscriber.new_sessions_left(per_second, now)),
            limits,
        })
    }
}

/// Slots of rules that inside addresses may have something of.
fn rules_with_conns(names: &GatewayNames) -> impl Iterator<Item = Slot> {
    let rules = names.slots().filter(|(name, _)| name.kind != RuleKind::Forwarding);
    rules.map(|(_, slot)| slot)
}

fn v4(field: &str, address: IpAddr) -> Reply<u32> {
    match address {
        IpAddr::V4(address) => Ok(address.to_bits()),
        IpAddr::V6(_) => {
            let message = format!("{address}: NAT has IPv4 addresses only");
            let mut body = ErrorBody::new(ErrorCode::Invalid, message);
            body.error.field = Some(field.to_owned());
            body.error.value = Some(address.to_string());
            Err(body)
        }
    }
}

fn mapping_info(
    mapping: &Mapping,
    names: &GatewayNames,
    worker: u16,
    now: Now,
) -> Option<MappingInfo> {
    let endpoint = |end: Endpoint32| Endpoint::v4(end.address, end.l4_port);
    Some(MappingInfo {
        protocol: Proto::from_number(mapping.proto)?,
        inside: endpoint(mapping.inside),
        outside: endpoint(mapping.outside),
        rule: names.rule(mapping.rule).map(|rule| rule.name.to_string()),
        connections: mapping.conns,
        age_ms: Mappings::age_ms(mapping, now).into(),
        worker,
    })
}

fn wan_info(
    wan: &WanName,
    config: &Model,
    usage: Option<&[WanUsage; PROTOS.len()]>,
) -> WanAddressInfo {
    let address = IpAddr::V4(wan.address.into());
    let range =
        wan.rules.iter().filter(|rule| rule.kind == RuleKind::Snat).find_map(|rule| match &config
            .snat
            .get(&*rule.name)?
            .wan_addresses
        {
            WanAddresses::Interface => None,
            WanAddresses::Pool(ranges) => ranges
                .iter()
                .find(|range| (range.address.first()..=range.address.last()).contains(&address)),
        });
    let usage = usage.copied().unwrap_or_default();
    let ports = PROTOS.iter().zip(usage).map(|(protocol, ports)| WanPortUsage {
        protocol: *protocol,
        capacity: ports.capacity,
        taken: ports.taken,
        resting: ports.resting,
    });
    WanAddressInfo {
        address,
        rules: wan.rules.iter().map(|rule| rule.name.to_string()).collect(),
        weight: range.map_or(1, |range| range.weight),
        admin: range.map_or(Admin::default(), |range| range.admin),
        leaving: wan.rules.is_empty(),
        absent: false,
        ports: ports.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_a_wan_ip_are_those_that_its_rules_take() {
        let text = "version: 1\nsnat:\n  \
                    one: { wan_addresses: [ 203.0.113.20 ], ports: 1000-1999 }\n  \
                    two: { wan_addresses: [ 203.0.113.20 ], ports: 1900-2099 }\n\
                    dnat:\n  \
                    a: { on: \"203.0.113.20:1990-2009\", protocol: tcp, to: \"10.0.0.5:1990-2009\" }\n  \
                    b: { on: \"203.0.113.20:5000\", protocol: tcp, to: \"10.0.0.5:5000\" }\n  \
                    c: { on: \"203.0.113.21:1000\", protocol: tcp, to: \"10.0.0.5:1000\" }\n";
        let (config, _) = config::load(text, "dpnat.yaml").unwrap();
        let rule = |kind, name: &str| RuleName { kind, name: name.into() };
        let rules = vec![rule(RuleKind::Snat, "one"), rule(RuleKind::Snat, "two")];
        let wan = WanName { address: 0xcb00_7114, place: 0, rules };
        assert_eq!(takeable(&wan, &config, Proto::Tcp), Some(1_080));
        assert_eq!(takeable(&wan, &config, Proto::Udp), Some(1_100));
        let wan = WanName { rules: vec![rule(RuleKind::Dnat, "a")], ..wan };
        assert_eq!(takeable(&wan, &config, Proto::Tcp), None);
    }
}
