//! What control and a worker say to each other, over rings that neither waits for.
//!
//! Whatever control sends comes back when it has been done, so that a worker allocates and frees
//! nothing: results are written into what the request brought along.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use balance::{Retired, ServerChunk, ServiceCell, ServiceChunk};
use counters::Published;
use fib::Heard;
use flow::{Cursor, ImportError, InsertError, Local, Record, TimeoutSet};
use nat::NatState;
use nat::mapping::Mapping;
use nat::state::AdoptError;
use pool::LeaseError;
use pool::wan::AddressPorts;
use rtrb::{Consumer, Producer, RingBuffer};
use types::{EthPortId, FlowKey6, MacAddr, Proto, Slot, WorkerId};

use crate::path::explain::Explanation;
use crate::path::steer::Asked;
use crate::snapshot::Snapshot;
use crate::worker::nat_log::{NatRecord, RECORDS};

/// Commands and answers under way, at most.
const COMMANDS: usize = 1024;
/// Events that control has not read yet, at most; more are a counted drop.
const EVENTS: usize = 4096;
/// Scans under way, at most.
const SCANS: usize = 16;

/// Something to be done between two bursts. It comes back by the same ring when it is done.
#[derive(Debug)]
pub enum Command {
    /// Take these cells and room for more, for a snapshot that is to come.
    Prepare(Box<Prepare>),
    /// Run this snapshot from now on.
    Update(Box<Update>),
    /// Give back what belongs to services and servers that are gone.
    Retire(Box<Retire>),
    /// Send this frame.
    Transmit(Box<Outgoing>),
    /// Say what would happen to this frame.
    Explain(Box<Explain>),
    /// Read the counts of some services and real servers.
    Totals(Box<Totals>),
    /// Open a conn from its record.
    Import(Box<Import>),
    /// Send what comes for a conn of another worker's on to it.
    Redirect(Box<Redirect>),
    /// Change the NAT state.
    Gateway(Box<GatewayWork>),
    /// Take these tables of conns with an IPv6 side; what is not needed any more comes back.
    Wide(Box<super::wide::WideTables>),
    /// Read counts and usage of the NAT state.
    ReadNat(Box<super::nat::Reading>),
}

/// So many items one command should carry at most, for a worker's loop to stay short.
pub const ITEMS_MAX: usize = 64;

/// What new services need before a snapshot names them.
#[derive(Debug, Default)]
pub struct Prepare {
    /// Room for more services.
    pub service_chunks: Vec<Option<ServiceChunk>>,
    /// Room for more real servers.
    pub server_chunks: Vec<Option<ServerChunk>>,
    /// Cells to put in. On the way back those that they replaced, or that found no room: what comes back is
    /// control's to free.
    pub cells: Vec<Option<Box<ServiceCell>>>,
}

/// A new snapshot.
#[derive(Debug)]
pub struct Update {
    /// The snapshot; on its way back the one that it replaced.
    pub snapshot: Arc<Snapshot>,
    /// Timeouts of the classes that changed.
    pub timeouts: Vec<(u8, TimeoutSet)>,
}

/// What becomes of a worker's NAT state: before a snapshot that needs it, or after one that does not any
/// more.
#[derive(Default)]
pub struct GatewayWork {
    /// A state to begin with. On its way back if there was one.
    pub state: Option<Box<NatState>>,
    /// Rules and port forwards that begin.
    pub begun: Vec<Slot>,
    /// Ports of WAN IPs to put at places, or `None` to take out what is there. On the way back what they
    /// replaced, or what found no room.
    pub wans: Vec<(u16, Option<Box<AddressPorts>>)>,
    /// Ports to keep for port forwards, or to give free.
    pub ports: Option<PortsKept>,
    /// Rules and port forwards that are gone; on the way back those that conns still name.
    pub ended: Vec<Slot>,
}

impl std::fmt::Debug for GatewayWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { state, begun, wans, ports, ended } = self;
        let places: Vec<_> = wans.iter().map(|(place, ports)| (place, ports.is_some())).collect();
        f.debug_struct("GatewayWork")
            .field("state", &state.is_some())
            .field("begun", begun)
            .field("wans", &places)
            .field("ports", ports)
            .field("ended", ended)
            .finish()
    }
}

/// Ports of a WAN IP that port forwards have, and mappings do not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortsKept {
    /// The WAN IP's place.
    pub place: u16,
    /// The protocol.
    pub proto: Proto,
    /// The ports: at most a few thousand, for a worker's loop to stay short.
    pub l4_ports: RangeInclusive<u16>,
    /// Whether they are kept or given free.
    pub reserved: bool,
}

/// Slots whose objects are gone from the snapshot that the worker runs.
#[derive(Debug, Default)]
pub struct Retire {
    /// Services; on the way back those that conns still name.
    pub services: Vec<Slot>,
    /// Real servers; on the way back those that conns still name.
    pub servers: Vec<Slot>,
    /// Cells of the services that are done with. Comes with room for them.
    pub cells: Vec<Box<ServiceCell>>,
    /// What the servers that are done with leave. Comes with room for them.
    pub retired: Vec<(Slot, Retired)>,
}

/// A frame that control sends.
#[derive(Debug)]
pub struct Outgoing {
    /// Where.
    pub interface: EthPortId,
    /// The frame from its Ethernet header on.
    pub frame: Vec<u8>,
}

/// A frame whose way is to be told.
#[derive(Debug)]
pub struct Explain {
    /// Where it would come in.
    pub interface: EthPortId,
    /// The frame from its Ethernet header on.
    pub frame: Vec<u8>,
    /// What the worker that it comes from said of its way; `None` for one that comes in here.
    pub asked: Option<Asked>,
    /// What would happen, once it has been done.
    pub explanation: Option<Explanation>,
}

/// Counts to be read.
#[derive(Debug, Default)]
pub struct Totals {
    /// Services asked for, with their counts once it has been done. What open conns have sent
    /// is in them up to the sweep's last round.
    pub services: Vec<(Slot, balance::Totals)>,
    /// Real servers asked for, likewise.
    pub servers: Vec<(Slot, balance::Totals)>,
}

/// A conn to be opened from its record, on the worker that [`Snapshot::home`] names.
#[derive(Debug)]
pub struct Import {
    /// The record.
    pub record: Record,
    /// What its addresses mean in the running snapshot.
    pub local: Local,
    /// How it ended, once it has been done: whom to give redirects, if anybody, or why there is no conn.
    pub result: Result<Redirects, Refused>,
}

/// The redirects that an imported conn needs: of the opener's packets, of those to the opener, and of all else that the
/// inside endpoint of its mapping sends. Each is missing where the conn's own worker owns the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redirects(pub [Option<Redirect>; 3]);

impl Redirects {
    /// Those that are needed.
    pub fn iter(&self) -> impl Iterator<Item = Redirect> {
        self.0.into_iter().flatten()
    }
}

/// Packets that are another worker's, if the conn is not on the worker that owns their key. The conn must be
/// there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The worker that is to have it.
    pub at: WorkerId,
    /// The key of the packets; of IPv4 with mapped addresses.
    pub key: FlowKey6,
    /// Whether the conn has an IPv6 side.
    pub wide: bool,
    /// The worker that has the conn.
    pub to: WorkerId,
    /// The class of the conn's timeouts.
    pub timeout_class: u8,
    /// How it ended, once it has been done.
    pub result: Result<(), Refused>,
}

/// Why a record or a redirect is not taken. Nothing of it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has not been looked at yet.
    #[error("nobody has looked at it yet")]
    Pending,
    /// It was given to the wrong worker.
    #[error("it belongs to worker {0}")]
    BelongsTo(u16),
    /// The record cannot be opened.
    #[error(transparent)]
    Record(#[from] ImportError),
    /// The port that it has leased cannot be had.
    #[error("the port of its local address: {0}")]
    Lease(#[from] LeaseError),
    /// A conn between two inside hosts whose ports of WAN IPs lead to two workers here.
    #[error(
        "it has mappings of two workers, and is to be imported in halves: {0} has the second one"
    )]
    PortOf(u16),
    /// The mapping or port of a NAT gateway's conn cannot be had.
    #[error("its port of a WAN IP: {0}")]
    Nat(#[from] AdoptError),
    /// The table does not take the redirect.
    #[error(transparent)]
    Redirect(#[from] InsertError),
    /// There is no other worker of this number.
    #[error("there is no other worker {0}")]
    NoWorker(u16),
}

/// A walk over a worker's conns, bounded in what it looks at a loop.
#[derive(Debug, Default)]
pub struct Scan {
    /// Which conns.
    pub filter: ConnFilter,
    /// What to do with them.
    pub action: ScanAction,
    /// Where it goes on.
    pub cursor: Cursor,
    /// Whether it goes on among the conns with an IPv6 side, which come after those of IPv4.
    pub wide: bool,
    /// Conns found, up to the capacity that it brought along; then the scan comes back.
    pub records: Vec<Record>,
    /// The rules of NAT that they are of, none if of a service; as far as it brought capacity along.
    pub rules: Vec<Slot>,
    /// Mappings found instead of conns, up to the capacity that it brought along.
    pub mappings: Vec<Mapping>,
    /// Conns that matched and were closed or counted.
    pub matched: u64,
    /// Whether the last conn has been looked at.
    pub finished: bool,
}

/// What a scan does with the conns that match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanAction {
    /// Writes their records.
    #[default]
    List,
    /// Counts them.
    Count,
    /// Writes mappings of NAT, and looks at no conns.
    Mappings(super::nat::MappingFilter),
    /// Closes them; with `reset` both ends of a TCP conn are told.
    Close {
        /// Whether resets are sent.
        reset: bool,
    },
}

/// Which conns a scan is about: all conditions that are given hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnFilter {
    /// Conns of this service; none of rules of NAT.
    pub service: Option<Slot>,
    /// Conns to this real server of any service.
    pub server: Option<Slot>,
    /// Conns from clients of this prefix: address and length.
    pub client: Option<(IpAddr, u8)>,
    /// Conns by this LIP.
    pub lip: Option<IpAddr>,
    /// Conns to this VIP.
    pub vip: Option<IpAddr>,
    /// Conns from this client port.
    pub client_port: Option<u16>,
    /// Conns of this protocol.
    pub proto: Option<Proto>,
    /// Conns in this state.
    pub state: Option<flow::State>,
    /// Conns of rules of NAT only, by this slot.
    pub rule: Option<Slot>,
    /// Conns of rules of NAT only.
    pub translated: bool,
    /// Conns that are found only because their VIP was steered otherwise before.
    pub stray: bool,
}

/// What a worker has seen and control should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet told an address.
    Learned {
        /// Where it came in.
        interface: EthPortId,
        /// The neighbour's address.
        address: IpAddr,
        /// Its Ethernet address.
        mac: MacAddr,
        /// How it was told.
        how: Heard,
    },
    /// A multicast router asks who listens (RFC 3810 §5.1).
    Queried {
        /// Where it came in.
        interface: EthPortId,
        /// The group that it asks for; 0 for all.
        group: u128,
        /// How long the answer may take, in ms.
        max_delay_ms: u32,
    },
    /// Packets wait for this neighbour.
    Needed {
        /// Where it is.
        interface: EthPortId,
        /// Its address.
        address: IpAddr,
    },
}

/// Control's end of the link to one worker.
#[derive(Debug)]
pub struct ControlEnd {
    /// To the worker.
    pub commands: Producer<Command>,
    /// Commands that have been done.
    pub done: Consumer<Command>,
    /// To the worker.
    pub scans: Producer<Box<Scan>>,
    /// Scans that are finished or full.
    pub scanned: Consumer<Box<Scan>>,
    /// What the worker saw.
    pub events: Consumer<Event>,
    /// What the log of NAT is to have.
    pub nat_log: Consumer<NatRecord>,
    /// The worker's counters, as of its last publication.
    pub published: Arc<Published>,
}

/// The worker's end of the link.
#[derive(Debug)]
pub struct WorkerEnd {
    /// From control.
    pub commands: Consumer<Command>,
    /// Commands that have been done.
    pub done: Producer<Command>,
    /// From control.
    pub scans: Consumer<Box<Scan>>,
    /// Scans that are finished or full.
    pub scanned: Producer<Box<Scan>>,
    /// What control should know.
    pub events: Producer<Event>,
    /// What the log of NAT is to have.
    pub nat_log: Producer<NatRecord>,
}

/// Both ends of a new link. `done` and `scanned` have room for all that can be under way, so a
/// worker never finds them full.
pub fn link(published: Arc<Published>) -> (ControlEnd, WorkerEnd) {
    let (commands_in, commands_out) = RingBuffer::new(COMMANDS);
    let (done_in, done_out) = RingBuffer::new(2 * COMMANDS);
    let (scans_in, scans_out) = RingBuffer::new(SCANS);
    let (scanned_in, scanned_out) = RingBuffer::new(2 * SCANS);
    let (events_in, events_out) = RingBuffer::new(EVENTS);
    let (nat_log_in, nat_log_out) = RingBuffer::new(RECORDS);
    let control = ControlEnd {
        commands: commands_in,
        done: done_out,
        scans: scans_in,
        scanned: scanned_out,
        events: events_out,
        nat_log: nat_log_out,
        published,
    };
    let worker = WorkerEnd {
        commands: commands_out,
        done: done_in,
        scans: scans_out,
        scanned: scanned_in,
        events: events_in,
        nat_log: nat_log_in,
    };
    (control, worker)
}
