//! A conn as a record that means the same on every node: addresses and durations, no index, hash,
//! tick or slot.

use serde::{Deserialize, Serialize};
use types::{Address, Endpoint, FlowKey, Now, Proto, Slot};

use crate::cold::{LeaseKind, NewCold};
use crate::flow::{ConnId, Flow, FlowAddress, FlowId, flags};
use crate::state::State;
use crate::table::{FlowTable, InsertError};

/// The flags that mean something on another node.
const PORTABLE_FLAGS: u8 = flags::TOA
    | flags::ADJUST_SEQ
    | flags::ADJUST_ACK
    | flags::ADJUST_TS
    | flags::EXT
    | flags::ENDED;

/// A conn, self-contained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Protocol, or the one that it is tracked as.
    pub proto: Proto,
    /// The IANA number of a protocol without ports, tracked as UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portless: Option<u8>,
    /// VLAN or tenant.
    pub zone: u16,
    /// The zone of the forward flow: `zone`, or one of its own where no packet is to find it.
    pub forward_zone: u16,
    /// State, of this protocol.
    pub state: State,
    /// Counts the transitions of the conn; wraps, so that only nearby ones compare.
    pub version: u16,
    /// Since it was opened, milliseconds.
    pub age_ms: u32,
    /// Until it expires if no packet comes, milliseconds.
    pub timeout_left_ms: u32,
    /// The VIP of its service, if it has one.
    pub vip: Option<Endpoint>,
    /// Its real server, if it has one.
    pub rs: Option<Endpoint>,
    /// What is leased for it.
    pub lease: LeaseKind,
    /// The opener's packets.
    pub forward: RecordFlow,
    /// The packets to the opener.
    pub reverse: RecordFlow,
    /// Its header of the PROXY protocol, if that is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderState>,
}

/// How far a TCP conn is with its header of the PROXY protocol. Numbers of sequence are the server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderState {
    /// The protocol's version, 1 or 2.
    pub version: u8,
    /// The number of its first byte.
    pub start: u32,
    /// It was sent, or is to be; else the client's first bytes are waited for.
    pub sent: bool,
    /// The server has acknowledged all of it.
    pub acknowledged: bool,
    /// The client's first bytes were looked at.
    pub read: bool,
    /// Bytes of a header of the client's own that were taken out.
    pub taken: u16,
    /// What the client has acknowledged last.
    pub ack: u32,
    /// The client's window, as it said.
    pub window: u16,
    /// The last timestamps that the client has sent, as the server sees them.
    pub timestamps: Option<(u32, u32)>,
}

/// One direction of a [`Record`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordFlow {
    /// Where packets come from, as they arrive.
    pub source: Endpoint,
    /// Where packets go, as they arrive.
    pub destination: Endpoint,
    /// Where they come from, as they leave.
    pub new_source: Endpoint,
    /// Where they go, as they leave.
    pub new_destination: Endpoint,
    /// See [`Flow::l3_delta`].
    pub l3_delta: u16,
    /// See [`Flow::l4_delta`].
    pub l4_delta: u16,
    /// See [`Flow::seq_offset`].
    pub seq_offset: u32,
    /// See [`Flow::ts_offset`].
    pub ts_offset: u32,
    /// See [`Flow::last_ack`].
    pub last_ack: u32,
    /// Packets not yet summed up elsewhere.
    pub packets: u32,
    /// Bytes not yet summed up elsewhere.
    pub bytes: u64,
    /// [`flags`] that are not of one node only.
    pub flags: u8,
}

/// What a record's addresses mean on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// The service of [`Record::vip`].
    pub service: Slot,
    /// The real server of [`Record::rs`].
    pub rs: Slot,
    /// The class of the service's timeouts.
    pub timeout_class: u8,
}

/// A record that cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The table does not take it.
    #[error(transparent)]
    Insert(#[from] InsertError),
    /// The state is not one of the protocol.
    #[error("a {proto} conn cannot be in state {state:?}")]
    State {
        /// The record's protocol.
        proto: Proto,
        /// The record's state.
        state: State,
    },
    /// An address of a family that this table does not hold.
    #[error("{0} is not an IPv4 endpoint")]
    Family(Endpoint),
    /// A header of the PROXY protocol, of a conn that has none on its way.
    #[error("a conn like this has no header of version {0} on its way")]
    Header(u8),
}

impl RecordFlow {
    fn of<A: FlowAddress>(flow: &Flow<A>) -> Self {
        Self {
            source: Endpoint::new(flow.src, flow.sport),
            destination: Endpoint::new(flow.dst, flow.dport),
            new_source: Endpoint::new(flow.new_src, flow.new_sport),
            new_destination: Endpoint::new(flow.new_dst, flow.new_dport),
            l3_delta: flow.l3_delta,
            l4_delta: flow.l4_delta,
            seq_offset: flow.seq_offset,
            ts_offset: flow.ts_offset,
            last_ack: flow.last_ack,
            packets: flow.packets,
            bytes: flow.bytes(),
            flags: flow.flags & PORTABLE_FLAGS,
        }
    }

    fn key<A: Address>(&self, zone: u16, proto: u8) -> Result<FlowKey<A>, ImportError> {
        let ((src, sport), (dst, dport)) = (numbers(self.source)?, numbers(self.destination)?);
        Ok(FlowKey { src, dst, sport, dport, zone, proto })
    }

    fn to_flow<A: FlowAddress>(
        &self,
        key: FlowKey<A>,
        state: State,
        timeout_class: u8,
    ) -> Result<Flow<A>, ImportError> {
        let (new_src, new_sport) = numbers(self.new_source)?;
        let (new_dst, new_dport) = numbers(self.new_destination)?;
        Ok(Flow {
            state,
            new_src,
            new_dst,
            new_sport,
            new_dport,
            l3_delta: self.l3_delta,
            l4_delta: self.l4_delta,
            seq_offset: self.seq_offset,
            ts_offset: self.ts_offset,
            last_ack: self.last_ack,
            packets: self.packets,
            bytes_low: self.bytes as u32,
            bytes_high: (self.bytes >> 32) as u16,
            flags: self.flags & PORTABLE_FLAGS,
            timeout_class,
            ..Flow::with_key(key)
        })
    }
}

impl Record {
    /// The keys of the packets as they arrive, the opener's first.
    ///
    /// # Errors
    /// An address is of another family than the tables hold.
    pub fn keys<A: Address>(&self) -> Result<[FlowKey<A>; 2], ImportError> {
        Ok([
            self.forward.key(self.forward_zone, self.protocol())?,
            self.reverse.key(self.zone, self.protocol())?,
        ])
    }

    /// The IANA number that its packets carry.
    pub const fn protocol(&self) -> u8 {
        match self.portless {
            Some(number) => number,
            None => self.proto.number(),
        }
    }

    /// True if all addresses are IPv4 ones: the conn is one of the table of IPv4.
    pub fn is_ipv4(&self) -> bool {
        [&self.forward, &self.reverse].into_iter().all(|flow| {
            [flow.source, flow.destination, flow.new_source, flow.new_destination]
                .into_iter()
                .all(|endpoint| endpoint.address.is_ipv4())
        })
    }

    /// True if both ends are exchanged and it holds mappings or ports for that: a conn between two inside hosts by their
    /// outside endpoints, or one through a port forward that exchanges the source.
    pub fn is_between_mappings(&self) -> bool {
        let Self { forward, lease, .. } = self;
        matches!(lease, LeaseKind::Mapping | LeaseKind::Wan)
            && forward.new_source != forward.source
            && forward.new_destination.address != forward.destination.address
    }

    /// True if packets of the opener are to find the conn.
    pub const fn has_forward(&self) -> bool {
        self.forward_zone == self.zone
    }
}

fn numbers<A: Address>(endpoint: Endpoint) -> Result<(A, u16), ImportError> {
    endpoint.to_numbers().ok_or(ImportError::Family(endpoint))
}

impl<A: FlowAddress> FlowTable<A> {
    /// The record of a conn; `None` if there is none.
    pub fn export(&self, conn: ConnId, now: Now) -> Option<Record> {
        let (forward, reverse) = (self.flow(conn.forward())?, self.flow(conn.reverse())?);
        let cold = self.cold(conn)?;
        let named =
            |slot: Slot, address, port| (!slot.is_none()).then(|| Endpoint::new(address, port));
        let portless = Proto::from_number(forward.proto).is_none().then_some(forward.proto);
        Some(Record {
            proto: forward.state.proto()?,
            portless,
            zone: reverse.zone,
            forward_zone: forward.zone,
            state: forward.state,
            version: cold.version(),
            age_ms: now.since(cold.created_ms()),
            timeout_left_ms: self.timeout_ms(conn).saturating_sub(self.idle_ms(conn, now)),
            vip: named(cold.service(), reverse.new_src, reverse.new_sport),
            rs: named(cold.rs(), forward.new_dst, forward.new_dport),
            lease: cold.lease(),
            forward: RecordFlow::of(forward),
            reverse: RecordFlow::of(reverse),
            header: None,
        })
    }

    /// Opens the conn of a record. It has no next hop yet (fib generation 0), and as long to live
    /// as the record says, but not longer than conns of its class here.
    ///
    /// # Errors
    /// The record contradicts itself, is of another family, or the table does not take it.
    pub fn import(
        &mut self,
        record: &Record,
        local: Local,
        now: Now,
    ) -> Result<ConnId, ImportError> {
        let (proto, state) = (record.proto, record.state);
        let tracked_as = |number| Proto::from_number(number).is_none() && proto == Proto::Udp;
        let tracked = record.portless.is_none_or(tracked_as);
        if state.proto() != Some(proto) || !tracked {
            return Err(ImportError::State { proto, state });
        }
        if let Some(header) = record.header {
            let flows = [&record.forward, &record.reverse];
            let extended = flows.iter().all(|flow| flow.flags & flags::EXT != 0);
            if proto != Proto::Tcp || !extended || !matches!(header.version, 1 | 2) {
                return Err(ImportError::Header(header.version));
            }
        }
        let [forward, reverse] = record.keys()?;
        let forward = record.forward.to_flow(forward, state, local.timeout_class)?;
        let reverse = record.reverse.to_flow(reverse, state, local.timeout_class)?;
        let new = NewCold { service: local.service, rs: local.rs, lease: record.lease };
        // The conn was elsewhere before.
        let replaced = self.take_redirect(&forward.key());
        let conn = match self.insert(forward, reverse, new, now) {
            Ok(conn) => conn,
            Err(error) => {
                if let Some((to, class)) = replaced {
                    self.insert_redirect(forward.key(), to, class, now)?;
                }
                return Err(error.into());
            }
        };
        let timeout_ms = self.timeout_ms(conn);
        let idle_ms = timeout_ms - record.timeout_left_ms.min(timeout_ms);
        for id in [conn.forward(), conn.reverse()] {
            self.set_last_seen(id, now.tick_ms.wrapping_sub(idle_ms));
        }
        if let Some(cold) = self.cold.get_mut(conn.0 as usize) {
            cold.restore(record.version, now.tick_ms.wrapping_sub(record.age_ms));
        }
        Ok(conn)
    }

    fn set_last_seen(&mut self, id: FlowId, tick_ms: u32) {
        if let Some(flow) = self.flow_mut(id) {
            flow.last_seen = tick_ms;
        }
    }
}

#[cfg(test)]
mod tests;
