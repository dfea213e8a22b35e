//! Conns: found on the workers, listed by pages, closed.

use std::net::IpAddr;
use std::sync::Arc;

use api::{
    Connection, ConnectionPage, ConnectionQuery, ConnectionState, ConnectionsClosed, ErrorBody,
    ErrorCode,
};
use balance::ServiceKey;
use config::{AddressRange, Model, Timeouts};
use flow::{Cursor, Record, State as FlowState};
use types::{Endpoint, Slot, WorkerId};

use super::change::PATIENCE;
use super::compile::{GatewayNames, RuleKind, timeout_set};
use super::services::no_service;
use super::{Control, Reply, State, unavailable};
use crate::snapshot::Snapshot;
use crate::worker::link::{ConnFilter, Scan, ScanAction};

/// Records that one scan brings back at a time.
const RECORDS: usize = 256;

impl Control {
    /// Conns, a page at a time.
    ///
    /// # Errors
    /// If the cursor is none, there is no such service, or a worker does not answer.
    pub async fn connections(&self, query: ConnectionQuery) -> Reply<ConnectionPage> {
        let chosen = self.state().chosen(&query)?;
        let limit = query.limit.unwrap_or(ConnectionQuery::LIMIT_DEFAULT);
        let limit = limit.clamp(1, ConnectionQuery::LIMIT_MAX) as usize;
        let mut at = Place::read(query.cursor.as_deref())?;
        let mut page = ConnectionPage::default();
        let workers = self.state().workers.len() as u16;
        while at.worker < workers {
            if query.worker.is_some_and(|only| only != at.worker) {
                at = Place::start(at.worker + 1);
                continue;
            }
            let room = (limit - page.connections.len()).min(RECORDS);
            let scan = Scan {
                filter: chosen.filter,
                cursor: at.cursor,
                wide: at.wide,
                records: Vec::with_capacity(room),
                rules: Vec::with_capacity(room),
                ..Scan::default()
            };
            let scan = self.scan(WorkerId(at.worker), Box::new(scan)).await?;
            let running = {
                let state = self.state();
                Running {
                    config: Arc::clone(&state.config),
                    snapshot: Arc::clone(&state.snapshot),
                    names: Arc::clone(&state.gateway_names),
                }
            };
            let found = scan.records.iter().zip(&scan.rules);
            let found = found.filter(|(record, _)| chosen.matches(record));
            page.connections
                .extend(found.map(|(record, rule)| connection(record, *rule, at.worker, &running)));
            at = match scan.finished {
                true => Place::start(at.worker + 1),
                false => Place { worker: at.worker, cursor: scan.cursor, wide: scan.wide },
            };
            if page.connections.len() >= limit {
                break;
            }
        }
        if at.worker < workers && query.worker.is_none_or(|only| only >= at.worker) {
            page.next = Some(at.write());
        }
        Ok(page)
    }

    /// Closes the conns that are chosen at once; both ends of an established TCP conn get a reset.
    ///
    /// # Errors
    /// If nothing is chosen, there is no such service, or a worker does not answer.
    pub async fn close_connections(&self, query: ConnectionQuery) -> Reply<ConnectionsClosed> {
        if query.is_unfiltered() {
            let message = "this would close all conns; choose some, if need be by protocol";
            return Err(ErrorBody::new(ErrorCode::Invalid, message));
        }
        let chosen = self.state().chosen(&query)?;
        let workers: Vec<_> = self.state().workers.ids().collect();
        let workers = workers.into_iter().filter(|id| query.worker.is_none_or(|only| only == id.0));
        let mut closed = 0;
        for worker in workers {
            if chosen.is_exact() {
                closed += self.close_chosen(worker, chosen.filter).await?;
            } else {
                closed += self.close_one_by_one(worker, &chosen).await?;
            }
        }
        tracing::info!(closed, "conns closed by request");
        Ok(ConnectionsClosed { closed })
    }

    /// For what a worker's filter cannot say: finds the conns, then closes each by its client.
    async fn close_one_by_one(&self, worker: WorkerId, chosen: &Chosen) -> Reply<u64> {
        let mut found = Vec::new();
        self.records_of(worker, chosen.filter, |record| {
            if chosen.matches(record) {
                found.push(exactly(record));
            }
        })
        .await?;
        let mut closed = 0;
        for filter in found {
            closed += self.close_chosen(worker, filter).await?;
        }
        Ok(closed)
    }

    /// Closes a worker's conns that a filter chooses; both ends of established TCP conns are told.
    pub(super) async fn close_chosen(&self, worker: WorkerId, filter: ConnFilter) -> Reply<u64> {
        let action = ScanAction::Close { reset: true };
        let scan = Scan { filter, action, ..Scan::default() };
        let closed = self.scan(worker, Box::new(scan)).await?.matched;
        self.state().conns_removed += closed;
        Ok(closed)
    }

    /// Looks at all conns that a filter chooses, on all workers.
    pub(super) async fn for_each_conn(
        &self,
        filter: ConnFilter,
        mut look: impl FnMut(&Record),
    ) -> Reply<()> {
        let workers: Vec<_> = self.state().workers.ids().collect();
        for worker in workers {
            self.records_of(worker, filter, &mut look).await?;
        }
        Ok(())
    }

    async fn records_of(
        &self,
        worker: WorkerId,
        filter: ConnFilter,
        mut look: impl FnMut(&Record),
    ) -> Reply<()> {
        let mut scan = Box::new(Scan { filter, ..Scan::default() });
        scan.records.reserve_exact(RECORDS);
        loop {
            scan = self.scan(worker, scan).await?;
            scan.records.iter().for_each(&mut look);
            if scan.finished {
                return Ok(());
            }
            scan.records.clear();
        }
    }

    /// Sends a scan to a worker and waits until it comes back: a long walk takes its time, a worker that
    /// does not come round is not waited for.
    pub(super) async fn scan(&self, worker: WorkerId, scan: Box<Scan>) -> Reply<Box<Scan>> {
        let waiting = {
            let waiting = self.state().workers.scan(worker, scan);
            waiting.map_err(|busy| unavailable(busy.to_string()))?
        };
        self.shared.sent.notify_one();
        tokio::pin!(waiting);
        loop {
            match tokio::time::timeout(PATIENCE, &mut waiting).await {
                Ok(Ok(scan)) => return Ok(scan),
                Ok(Err(_)) => return Err(unavailable(format!("worker {} has ended", worker.0))),
                Err(_) if self.state().watchdog.is_stalled(worker) => {
                    return Err(unavailable(format!("worker {} does not come round", worker.0)));
                }
                Err(_) => {}
            }
        }
    }
}

/// Where a list goes on: a worker, and a place in one of its slabs.
pub(super) struct Place {
    pub worker: u16,
    pub cursor: Cursor,
    /// Among the conns with an IPv6 side.
    pub wide: bool,
}

/// What stands before a place among the conns with an IPv6 side.
const WIDE: char = 'w';

impl Place {
    pub(super) fn start(worker: u16) -> Self {
        Self { worker, cursor: Cursor::default(), wide: false }
    }

    pub(super) fn read(text: Option<&str>) -> Reply<Self> {
        let Some(text) = text else { return Ok(Self::start(0)) };
        let read = || {
            let (worker, place) = text.split_once('.')?;
            let bits = place.strip_prefix(WIDE);
            let cursor = u32::from_str_radix(bits.unwrap_or(place), 16).ok()?;
            let (cursor, wide) = (Cursor::from_bits(cursor), bits.is_some());
            Some(Self { worker: worker.parse().ok()?, cursor, wide })
        };
        read().ok_or_else(|| {
            let mut body = ErrorBody::new(
                ErrorCode::Invalid,
                format!("`{text}` is no cursor; take `next` of the page before"),
            );
            body.error.field = Some("cursor".to_owned());
            body.error.value = Some(text.to_owned());
            body
        })
    }

    pub(super) fn write(&self) -> String {
        let lane = if self.wide { WIDE.to_string() } else { String::new() };
        format!("{}.{lane}{:x}", self.worker, self.cursor.to_bits())
    }
}

/// What a query chooses: the part that workers look at, and the rest.
#[derive(Clone, Debug)]
struct Chosen {
    filter: ConnFilter,
    client: Option<AddressRange>,
    vip: Option<Endpoint>,
    lip: Option<AddressRange>,
    server: Option<Endpoint>,
    state: Option<ConnectionState>,
}

impl Chosen {
    /// True if workers look at all of it.
    fn is_exact(&self) -> bool {
        self.client.is_none()
            && self.vip.is_none()
            && self.lip.is_none()
            && self.server.is_none()
            && self.state.is_none()
    }

    fn matches(&self, record: &Record) -> bool {
        let [client, vip, lip, server] = ends(record);
        self.client.is_none_or(|range| range.contains(client.address))
            && self.vip.is_none_or(|wanted| wanted == vip)
            && self.lip.is_none_or(|range| range.contains(lip.address))
            && self.server.is_none_or(|wanted| wanted == server)
            && self.state.is_none_or(|wanted| wanted == state(record.state))
    }
}

/// Client, VIP, LIP and real server of a conn.
fn ends(record: &Record) -> [Endpoint; 4] {
    let (forward, reverse) = (&record.forward, &record.reverse);
    [forward.source, forward.destination, reverse.destination, reverse.source]
}

/// The filter of this conn and those few that have its client, port and protocol in common.
fn exactly(record: &Record) -> ConnFilter {
    let client = record.forward.source;
    let len = if client.address.is_ipv4() { u32::BITS } else { u128::BITS };
    ConnFilter {
        client: Some((client.address, len as u8)),
        client_port: Some(client.l4_port.0),
        proto: Some(record.proto),
        ..ConnFilter::default()
    }
}

impl State {
    fn chosen(&self, query: &ConnectionQuery) -> Reply<Chosen> {
        let name = query.service.as_deref();
        let rule = name.and_then(|name| self.gateway_names.listed(name));
        let service = name.filter(|_| rule.is_none()).map(|name| {
            let compiled = self.compiled(name).ok_or_else(|| no_service(name))?;
            Ok::<_, ErrorBody>(compiled.spec().slot)
        });
        let mut filter = ConnFilter {
            service: service.transpose()?,
            rule,
            proto: query.protocol,
            ..ConnFilter::default()
        };
        let mut client = query.client;
        if let Some(prefix) = client.and_then(as_prefix) {
            filter.client = Some(prefix);
            client = None;
        }
        let state = match query.state.map(flow_states) {
            Some([only]) => {
                filter.state = Some(*only);
                None
            }
            _ => query.state,
        };
        let (vip, lip, server) = (query.vip, query.lip, query.server);
        Ok(Chosen { filter, client, vip, lip, server, state })
    }
}

/// A range as address and length, if it is a prefix.
fn as_prefix(range: AddressRange) -> Option<(IpAddr, u8)> {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    let (first, last) = (bits(range.first()), bits(range.last()));
    let host_bits = (first ^ last).count_ones();
    let mask = 1u128.checked_shl(host_bits).map_or(u128::MAX, |bit| bit - 1);
    let len = if range.first().is_ipv4() { u32::BITS } else { u128::BITS } - host_bits;
    (first & mask == 0 && last == first | mask).then_some((range.first(), len as u8))
}

/// A state as the API has it.
const fn state(state: FlowState) -> ConnectionState {
    match state {
        FlowState::SynSent => ConnectionState::SynSent,
        FlowState::SynReceived => ConnectionState::SynReceived,
        FlowState::Established => ConnectionState::Established,
        FlowState::ForwardFin => ConnectionState::ForwardFin,
        FlowState::ReverseFin => ConnectionState::ReverseFin,
        FlowState::BothFin | FlowState::ForwardLastAck | FlowState::ReverseLastAck => {
            ConnectionState::BothFin
        }
        FlowState::Free | FlowState::Closed | FlowState::Reset => ConnectionState::Closed,
        FlowState::UdpOneway | FlowState::IcmpOneway => ConnectionState::Oneway,
        FlowState::Udp | FlowState::Icmp => ConnectionState::Bidirectional,
    }
}

/// The states that the API has under one name.
const fn flow_states(wanted: ConnectionState) -> &'static [FlowState] {
    match wanted {
        ConnectionState::SynSent => &[FlowState::SynSent],
        ConnectionState::SynReceived => &[FlowState::SynReceived],
        ConnectionState::Established => &[FlowState::Established],
        ConnectionState::ForwardFin => &[FlowState::ForwardFin],
        ConnectionState::ReverseFin => &[FlowState::ReverseFin],
        ConnectionState::BothFin => {
            &[FlowState::BothFin, FlowState::ForwardLastAck, FlowState::ReverseLastAck]
        }
        ConnectionState::Closed => &[FlowState::Closed, FlowState::Reset],
        ConnectionState::Oneway => &[FlowState::UdpOneway, FlowState::IcmpOneway],
        ConnectionState::Bidirectional => &[FlowState::Udp, FlowState::Icmp],
    }
}

/// What runs, for the names and timeouts of conns.
struct Running {
    config: Arc<Model>,
    snapshot: Arc<Snapshot>,
    names: Arc<GatewayNames>,
}

impl Running {
    /// Name and timeouts of a rule of NAT.
    fn of_rule(&self, rule: Slot) -> (Option<String>, Timeouts) {
        let config = &self.config;
        let name = self.names.rule(rule);
        let timeouts = name.and_then(|rule| match rule.kind {
            RuleKind::Snat => config.snat.get(&*rule.name).map(|rule| (&rule.timeouts).into()),
            RuleKind::Dnat => config.dnat.get(&*rule.name).map(|rule| (&rule.timeouts).into()),
            RuleKind::Forwarding => None,
        });
        let timeouts = timeouts.unwrap_or_else(|| (&config::NatTimeouts::default()).into());
        (name.map(ToString::to_string), timeouts)
    }

    /// Name and timeouts of the service at a VIP.
    fn of_service(&self, record: &Record, vip: Endpoint) -> (Option<String>, Timeouts) {
        let config = &self.config;
        let service = self.snapshot.services.find(ServiceKey {
            zone: record.zone,
            proto: record.proto,
            address: vip.address,
            l4_port: vip.l4_port.0,
        });
        let name = service.map(|service| service.spec().name.to_string());
        let forward = name.as_ref().and_then(|name| name.strip_prefix("dnat/"));
        let forward = forward.and_then(|name| config.dnat.get(name));
        let configured = name.as_ref().and_then(|name| config.services.get(name));
        let timeouts = match (configured, forward) {
            (Some(service), _) => service.resolved_timeouts(&config.conntrack.timeouts),
            (None, Some(rule)) => (&rule.timeouts).into(),
            (None, None) => config.conntrack.timeouts.clone(),
        };
        (name, timeouts)
    }
}

/// A conn as it is listed; `rule` is the rule of NAT that it is of, if it is of one.
fn connection(record: &Record, rule: Slot, worker: u16, running: &Running) -> Connection {
    let [client, vip, lip, server] = ends(record);
    let (name, timeouts) = match rule.is_none() {
        true => running.of_service(record, vip),
        false => running.of_rule(rule),
    };
    let timeout_ms = timeout_set(&timeouts).of(record.state);
    Connection {
        protocol: record.proto,
        state: state(record.state),
        service: name,
        client,
        vip,
        lip,
        server,
        worker,
        age_ms: record.age_ms.into(),
        // A change of the timeouts since its last packet would show here.
        idle_ms: timeout_ms.saturating_sub(record.timeout_left_ms).min(record.age_ms).into(),
        expires_in_ms: record.timeout_left_ms.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_are_prefixes_are_left_to_the_workers() {
        let range = |text: &str| as_prefix(text.parse().unwrap());
        let prefix = |address: &str, len| Some((address.parse().unwrap(), len));
        assert_eq!(range("10.0.0.0/8"), prefix("10.0.0.0", 8));
        assert_eq!(range("10.0.0.1"), prefix("10.0.0.1", 32));
        assert_eq!(range("0.0.0.0/0"), prefix("0.0.0.0", 0));
        assert_eq!(range("2001:db8::/32"), prefix("2001:db8::", 32));
        assert_eq!(range("::/0"), prefix("::", 0));
        assert_eq!(range("2001:db8::1-2001:db8::2"), None);
        assert_eq!(range("10.0.0.1-10.0.0.2"), None);
        assert_eq!(range("10.0.0.0-10.0.0.2"), None);
    }

    #[test]
    fn cursors_round_trip() {
        for wide in [false, true] {
            let place = Place { worker: 3, cursor: Cursor::from_bits(0xbeef), wide };
            let again = Place::read(Some(&place.write())).unwrap();
            let parts = |place: &Place| (place.worker, place.cursor, place.wide);
            assert_eq!(parts(&again), parts(&place));
        }
        for text in ["", "1", "1.", "x.1", "1.1.1", "70000.0", "1.w", "1.ww1"] {
            let error = Place::read(Some(text)).err().unwrap();
            assert_eq!(error.error.code, ErrorCode::Invalid, "{text}");
        }
    }

    #[test]
    fn every_state_comes_back_under_its_name() {
        for name in [
            ConnectionState::SynSent,
            ConnectionState::SynReceived,
            ConnectionState::Established,
            ConnectionState::ForwardFin,
            ConnectionState::ReverseFin,
            ConnectionState::BothFin,
            ConnectionState::Closed,
            ConnectionState::Oneway,
            ConnectionState::Bidirectional,
        ] {
            assert!(flow_states(name).iter().all(|inner| state(*inner) == name));
        }
    }
}
