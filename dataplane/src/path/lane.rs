//! The two lanes of a core: the narrow one has the conns of IPv4, the wide one all that have an IPv6 side.
//!
//! A burst is of one lane, and its stages are written once for either. What a lane does in a way of its own
//! stands here; what only IPv4 has, as a NAT gateway's conns, does nothing unless the narrow lane says so.

use std::net::IpAddr;

use balance::ServiceSpec;
use fib::{Fib, IpNumber, Owner, RouteKind};
use flow::{ConnId, Flow, FlowId, FlowTable, Removed, State};
use nat::rewrite::{Layout, Outcome};
use pool::{GroupKey, LeaseError, Leases};
use types::{ClassSet, EthPortId, FlowKey, Io, Now, Packet, Slot, Verdict, WorkerId};
use wire::Parsed;
use wire::reply::{ErrorMessage, Reset};
use wire::segment::Segment;

use crate::path::burst::{Burst, Mask, Meta};
use crate::path::gateway;
use crate::path::gather::Gathered;
use crate::path::open::Decision;
use crate::path::reply::Refusal;
use crate::snapshot::{Second, Snapshot};
use crate::worker::Core;
use crate::worker::handoff::Handoff;
use crate::worker::kernel::PuntClass;
use nat::state::{Held, Kept};

mod narrow;
mod wide;

pub(super) use narrow::is_wide;

/// Where packets to an address go, whatever its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// To others, or to ourselves.
    pub kind: RouteKind,
    /// Where out.
    pub iface: EthPortId,
    /// The largest packet, in bytes.
    pub mtu: u16,
    /// The address whose Ethernet address a packet gets.
    pub target: IpAddr,
}

/// The ports that a worker leases, by the family of the server that they lead to.
#[derive(Debug)]
pub struct Pools<'a> {
    /// Of IPv4 LIPs.
    pub v4: &'a mut Leases,
    /// Of IPv6 LIPs.
    pub v6: &'a mut Leases<u128>,
    /// The classes that are this worker's.
    pub classes: ClassSet,
}

/// The address of a lane's flows, and what the stages ask of the lane.
pub trait Lane: nat::Family + IpNumber {
    /// Its conns.
    fn table<P>(core: &Core<P>) -> &FlowTable<Self>;

    /// The same, to change them.
    fn table_mut<P>(core: &mut Core<P>) -> &mut FlowTable<Self>;

    /// Its conns beside the configuration.
    fn parts<P>(core: &mut Core<P>) -> (&Snapshot, &mut FlowTable<Self>);

    /// Its rings to and from the other workers.
    fn handoff_mut<P>(core: &mut Core<P>) -> &mut Handoff<P, Self>;

    /// Whose an address is.
    fn owner(fib: &Fib, address: Self) -> Option<Owner>;

    /// The way to an address.
    fn hop(fib: &Fib, address: Self) -> Option<Hop>;

    /// A packet that is no longer than this when it leaves fits every way.
    fn mtu_floor(fib: &Fib) -> u16;

    /// How long a packet of a flow is when it has been translated, without what is inserted.
    fn len_after<P: Packet>(packet: &P, flow: &Flow<Self>, parsed: &Parsed<Self>) -> u16;

    /// What the sender of a flow's packets may be told of a way's MTU.
    fn told_mtu(flow: &Flow<Self>, mtu: u16) -> u16;

    /// Translates a packet, see [`nat::rewrite::apply`].
    ///
    /// # Errors
    /// As there.
    fn apply<P: Packet>(
        packet: &mut P,
        layout: Layout,
        flow: &Flow<Self>,
        show_client: bool,
        mtu: usize,
        ident: u16,
    ) -> Result<Outcome, Verdict>;

    /// What tells the fragments of the next packet apart, where translation makes it one that may be fragmented.
    #[inline(always)]
    fn next_ident<P>(_core: &mut Core<P>) -> u16 {
        0
    }

    /// Whether an ICMP error says that less passes than every sender may send, with so many bytes inserted.
    fn leaves_no_room<P: Packet>(
        _packet: &P,
        _parsed: &Parsed<Self>,
        _flow: &Flow<Self>,
        _inserted: u16,
    ) -> bool {
        false
    }

    /// Translates a fragment but the first.
    ///
    /// # Errors
    /// As [`nat::rewrite::apply`].
    fn apply_to_fragment<P: Packet>(
        packet: &mut P,
        layout: Layout,
        flow: &Flow<Self>,
    ) -> Result<(), Verdict>;

    /// Translates an ICMP error of which we had inserted so many bytes into the quoted packet.
    ///
    /// # Errors
    /// As [`nat::rewrite::apply`].
    fn translate_error<P: Packet>(
        packet: &mut P,
        parsed: &Parsed<Self>,
        flow: &Flow<Self>,
        inserted: u16,
        fib: &Fib,
    ) -> Result<(), Verdict>;

    /// Whether a packet may be cut, once it has been translated, into fragments of so many bytes.
    fn can_be_cut<P: Packet>(
        packet: &P,
        parsed: &Parsed<Self>,
        flow: &Flow<Self>,
        mtu: u16,
    ) -> bool;

    /// Whether a packet is the first of several fragments.
    fn is_first_fragment<P: Packet>(packet: &P, parsed: &Parsed<Self>) -> bool;

    /// Where the headers of a packet of a flow stand when it has been translated.
    fn layout_after(flow: &Flow<Self>, layout: Layout) -> Layout;

    /// Turns a segment into the reset that answers it; false if it cannot be.
    fn reset_reply<P: Packet>(packet: &mut P, parsed: &Parsed<Self>) -> bool;

    /// Writes a reset; the frame's length, `None` without room for it.
    fn write_reset(bytes: &mut [u8], reset: &Reset<Self>) -> Option<usize>;

    /// Writes a segment of ours; the frame's length, `None` without room for it.
    fn write_segment(bytes: &mut [u8], segment: &Segment<'_, Self>) -> Option<usize>;

    /// The source of an ICMP error about a packet that came in by an interface; `None` if there may be none.
    fn error_source<P: Packet>(
        fib: &Fib,
        interface: EthPortId,
        packet: &P,
        parsed: &Parsed<Self>,
        message: ErrorMessage,
    ) -> Option<Self>;

    /// Turns a packet into an ICMP error about it; false if it cannot be. The message is in the words of IPv4.
    fn icmp_error<P: Packet>(
        packet: &mut P,
        parsed: &Parsed<Self>,
        message: ErrorMessage,
        source: Self,
    ) -> bool;

    /// Leases a port of one of a service's LIPs towards a server: `group` is without the LIP.
    fn lease(
        pools: &mut Pools<'_>,
        spec: &ServiceSpec,
        next: &mut u32,
        group: GroupKey<Self>,
    ) -> Option<(Self, u16)>;

    /// Leases this very port, for a conn that comes from elsewhere.
    ///
    /// # Errors
    /// If it cannot be had.
    fn take_exact(
        pools: &mut Pools<'_>,
        group: &GroupKey<Self>,
        l4_port: u16,
    ) -> Result<(), LeaseError>;

    /// Gives a port back, as [`Leases::give_back`] does.
    fn give_back(
        pools: &mut Pools<'_>,
        group: &GroupKey<Self>,
        l4_port: u16,
        rest: Option<u32>,
    ) -> bool;

    /// Takes the packets that are of no conn of this lane, but the other one's, out of the burst. Those that stay are
    /// returned.
    fn change_lanes<P: Packet>(
        _core: &mut Core<P>,
        _burst: &mut Burst<P, Self>,
        misses: Mask,
    ) -> Mask {
        misses
    }

    /// As what the kernel has a packet of no conn.
    fn unclaimed(_snapshot: &Snapshot, _meta: &Meta<Self>) -> Option<PuntClass> {
        None
    }

    /// What the gateway decides about a packet of no conn, if it is the gateway's.
    fn decide_nat<P: Packet>(_core: &Core<P>, _meta: &Meta<Self>) -> Option<Decision> {
        None
    }

    /// Who is asked for a conn that the owner of this key has not.
    fn second(
        _snapshot: &Snapshot,
        _role: Option<fib::Role>,
        _key: &FlowKey<Self>,
        _in_dev: EthPortId,
    ) -> Option<Second> {
        None
    }

    /// Why a client's conn in NAT mode may not go to a server: a rule of the gateway says so, which is named.
    fn denied_to_server(
        _snapshot: &Snapshot,
        _meta: &Meta<Self>,
        _to: (Self, u16),
    ) -> Option<(Verdict, Refusal, Slot)> {
        None
    }

    /// Where all goes that the endpoint of a key sends, whose mapping is another worker's.
    fn endpoint_redirect<P: Packet>(_core: &Core<P>, _key: &FlowKey<Self>) -> Option<WorkerId> {
        None
    }

    /// An endpoint whose conns go on keeps its mapping: so does the redirect to it.
    fn renew_endpoint<P: Packet>(_core: &mut Core<P>, _meta: &Meta<Self>, _now: Now) {}

    /// The worker that the redirect of an endpoint names has no mapping any more.
    fn forget_endpoint<P: Packet>(_core: &mut Core<P>, _key: &FlowKey<Self>) {}

    /// Whether the sender of a packet that was redirected here has its mapping here.
    fn has_mapping<P: Packet>(_core: &Core<P>, _meta: &Meta<Self>) -> bool {
        false
    }

    /// True if a port of a WAN IP that is this worker's has no mapping.
    fn is_vacant<P: Packet>(_core: &Core<P>, _key: &FlowKey<Self>) -> bool {
        false
    }

    /// Whether what goes to an address comes back to us.
    fn loops_back<P: Packet>(_core: &Core<P>, _destination: Self) -> bool {
        false
    }

    /// Takes a translated packet to where it comes back; false if it does not.
    fn loop_back<P: Packet>(_core: &mut Core<P>, _burst: &mut Burst<P, Self>, _at: usize) -> bool {
        false
    }

    /// Lowers the MSS of a SYN as the rule of its conn says.
    fn clamp_mss<P: Packet>(_core: &Core<P>, _packet: &mut P, _id: FlowId, _layout: Layout) {}

    /// Gathers a conn of the gateway, to be opened with others.
    fn gather<P: Packet>(
        _gathered: &mut Gathered,
        _core: &mut Core<P>,
        burst: &mut Burst<P, Self>,
        at: usize,
        _opening: gateway::Opening,
        _now: Now,
    ) {
        burst.end(at, Verdict::Internal);
    }

    /// Opens the conns that are gathered.
    fn open_gathered<P: Packet>(
        _gathered: &mut Gathered,
        _core: &mut Core<P>,
        _burst: &mut Burst<P, Self>,
        _now: Now,
    ) {
    }

    /// Does what the gateway has decided about a packet, that it opens a conn among it.
    fn settle_nat<I: Io>(
        _core: &mut Core<I::Packet>,
        _io: &mut I,
        burst: &mut Burst<I::Packet, Self>,
        at: usize,
        _decision: Decision,
        _now: Now,
    ) {
        burst.end(at, Verdict::Internal);
    }

    /// Counts a refused packet with the rule that has refused it.
    fn count_refused<P: Packet>(_core: &mut Core<P>, _meta: &Meta<Self>, _verdict: Verdict) {}

    /// A packet of a flow has moved a conn of the gateway to another state, which may be the answer that it waits for.
    ///
    /// # Errors
    /// If it is one more than the inside host may have.
    fn answered<P: Packet>(
        _core: &mut Core<P>,
        _id: FlowId,
        _to: State,
        _now: Now,
    ) -> Result<(), Verdict> {
        Ok(())
    }

    /// Keeps the mappings of a conn that another one follows at once.
    fn keep<P: Packet>(_core: &mut Core<P>, _conn: ConnId) -> Option<(Held, Kept)> {
        None
    }

    /// Lets them go.
    fn let_go<P: Packet>(_core: &mut Core<P>, _kept: Option<(Held, Kept)>, _now: Now) {}

    /// A conn of the gateway is gone.
    fn release<P: Packet>(_core: &mut Core<P>, _removed: &Removed<Self>, _now: Now) {}

    /// What a conn of the gateway holds; asks for what leads to its mapping, that the release will read.
    fn prefetch_release<P: Packet>(_core: &Core<P>, _conn: ConnId) -> Option<Held> {
        None
    }

    /// Asks for the mapping itself.
    fn prefetch_mapping<P: Packet>(_core: &Core<P>, _held: &Held) {}

    /// Adds what a conn of the gateway has sent to its rule's counts.
    fn fold_rule_counts<P: Packet>(_core: &mut Core<P>, _conn: ConnId, _rule: Slot) {}
}
