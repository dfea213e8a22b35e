//! What goes up to the kernel by an interface's KNI, and how much of it.
//!
//! A VIP, LIP or WAN IP is the path's alone, even if the kernel holds it as well: only what routing and
//! redundancy protocols say to it goes up.

use counters::Source;
use fib::Role;
use types::{EthPortId, Io, MacAddr, Now, Packet, Verdict};
use wire::{Arp, Ethernet, Ipv4, Parsed, arp, ethernet};

use crate::path::burst::{Burst, Meta};
use crate::path::egress::gather;
use crate::path::lane::Lane;
use crate::path::parse::parse_one;
use crate::snapshot::Snapshot;
use crate::worker::Core;
use crate::worker::kernel::{KernelPacket, PuntClass};

/// Packets of the kernel that one round sends, at most.
const FROM_KERNEL: usize = 32;

const TCP: u8 = 6;
const UDP: u8 = 17;
const OSPF: u8 = 89;
const VRRP: u8 = 112;
const BGP: u16 = 179;
/// RFC 5881 §4, RFC 5883 §5.
const BFD: std::ops::RangeInclusive<u16> = 3784..=3785;
const BFD_MULTIHOP: u16 = 4784;

/// Whether a packet is of a protocol without which the node drops out of its network.
fn is_protocol(parsed: &Parsed) -> bool {
    let key = &parsed.key;
    match key.proto {
        OSPF | VRRP => true,
        TCP => key.dport == BGP || key.sport == BGP,
        UDP => BFD.contains(&key.dport) || key.dport == BFD_MULTIHOP,
        _ => false,
    }
}

fn class_of(snapshot: &Snapshot, meta: &Meta) -> PuntClass {
    if is_protocol(&meta.parsed) {
        PuntClass::Protocol
    } else if snapshot.kernel.checks(EthPortId(meta.interface), &meta.parsed.key) {
        PuntClass::Check
    } else {
        PuntClass::Local
    }
}

/// Gives a live packet to the kernel, as far as its kind may.
#[cold]
pub(super) fn punt<P: Packet, A: Lane>(
    core: &mut Core<P>,
    burst: &mut Burst<P, A>,
    at: usize,
    class: PuntClass,
    now: Now,
) {
    if !core.kernel.may_punt(class, now) {
        burst.end(at, Verdict::PuntLimit);
        return;
    }
    let interface = EthPortId(burst.meta(at).interface);
    let Some(packet) = burst.take(at) else { return };
    let verdict = match core.kernel.punt(class, KernelPacket { interface, packet }) {
        Ok(()) => Verdict::Punted,
        Err(_refused) => Verdict::PuntFull,
    };
    core.counters.ended(verdict, 1);
}

/// As what a packet to nobody of ours goes up: its address is the kernel's.
#[inline]
pub(super) fn of_kernel(snapshot: &Snapshot, meta: &Meta) -> Option<PuntClass> {
    let held = !snapshot.kernel.is_empty()
        && snapshot.kernel.holds(EthPortId(meta.interface), meta.parsed.key.dst);
    held.then(|| class_of(snapshot, meta))
}

/// Whether a packet's address is the kernel's and nobody else's here: it has the fragments as they come.
#[inline]
pub(super) fn of_kernel_only(snapshot: &Snapshot, meta: &Meta) -> bool {
    of_kernel(snapshot, meta).is_some() && snapshot.fib.owner(meta.parsed.key.dst).is_none()
}

/// As what a packet to an address of ours goes up though it is none of TCP, UDP and echo requests.
pub(super) fn of_ours(snapshot: &Snapshot, meta: &Meta, role: Role) -> Option<PuntClass> {
    of_kernel(snapshot, meta).filter(|class| role == Role::Local || *class != PuntClass::Local)
}

/// As what a packet to an address of ours goes up that is of no conn. On an interface's own address the
/// kernel has what no service wants.
#[inline]
pub(super) fn unclaimed(snapshot: &Snapshot, meta: &Meta) -> Option<PuntClass> {
    if snapshot.kernel.is_empty() {
        return None;
    }
    let role = meta.role?;
    let served = || role == Role::Local && snapshot.services.lookup(&meta.parsed.key).is_some();
    of_ours(snapshot, meta, role).filter(|class| *class != PuntClass::Local || !served())
}

/// Whether an ARP packet is for the kernel, too: a reply to us, a question for an address that it holds,
/// or what may change one that it knows.
pub(super) fn wants_arp<P: Packet>(core: &Core<P>, burst: &Burst<P>, at: usize) -> bool {
    let meta = burst.meta(at);
    let interface = EthPortId(meta.interface);
    let snapshot = &core.snapshot;
    if !snapshot.interfaces.get(usize::from(interface.0)).is_some_and(|ours| ours.kni) {
        return false;
    }
    let header = burst.packet(at).and_then(|packet| {
        let header = Arp::at(packet.bytes(), usize::from(meta.parsed.l3))?;
        Some((header.operation(), header.sender_ip(), header.target_ip()))
    });
    header.is_some_and(|(operation, sender, target)| {
        operation == arp::REPLY || sender == target || snapshot.kernel.holds(interface, target)
    })
}

/// What `parse` refuses and the kernel may want: what is for a group, a fragment for an address that it
/// holds, another protocol than IPv4. Everything else ends as `parse` has it.
#[cold]
pub(super) fn refused<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P>, at: usize, now: Now) {
    let Some((packet, meta)) = burst.both(at) else { return };
    let interface = EthPortId(meta.interface);
    let ours = core.snapshot.interfaces.get(usize::from(interface.0));
    let verdict = match parse_one(packet, meta, ours) {
        Err(wire::ParseError::Drop(verdict)) => verdict,
        Err(wire::ParseError::Fragment) => Verdict::NoFirstFragment,
        Err(wire::ParseError::Ipv6) => Verdict::UnknownEtherType,
        _ => Verdict::Malformed,
    };
    let destination = Ethernet::new_checked(packet.bytes()).map(|header| header.destination());
    let mac = ours.map(|ours| ours.mac);
    let class = destination.filter(|_| is_whole(verdict)).and_then(|destination| {
        let to_us = Some(destination) == mac;
        refused_class(&core.snapshot, interface, packet.bytes(), destination, to_us)
    });
    match class {
        Some(class) => {
            if verdict == Verdict::OtherStation && packet.l4_checksum_unfinished() {
                wire::finish_l4_checksum(packet, &meta.parsed);
                core.counters.add(counters::Event::ChecksumFinished, 1);
            }
            punt(core, burst, at, class, now);
        }
        None => burst.end(at, verdict),
    }
}

/// Whether what is refused so is a sound packet.
const fn is_whole(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::OtherStation | Verdict::UnknownEtherType | Verdict::NoFirstFragment)
}

fn refused_class(
    snapshot: &Snapshot,
    interface: EthPortId,
    bytes: &[u8],
    destination: MacAddr,
    to_us: bool,
) -> Option<PuntClass> {
    let heard = destination.is_multicast() && snapshot.kernel.hears(interface, destination);
    if !to_us && !heard {
        return None;
    }
    let header = Ethernet::new_checked(bytes)?;
    let ip = match header.ether_type() {
        ethernet::IPV4 => Ipv4::at(bytes, ethernet::LEN)?,
        // Of VLANs the kernel has its own interfaces.
        ethernet::VLAN => return None,
        _ => return Some(PuntClass::Group),
    };
    match ip.protocol() {
        OSPF | VRRP => Some(PuntClass::Protocol),
        _ if !to_us => Some(PuntClass::Group),
        _ if snapshot.kernel.holds(interface, ip.destination()) => Some(PuntClass::Local),
        _ => None,
    }
}

/// Sends what the kernel sends, a bounded number. Returns how many there were.
#[inline]
pub(crate) fn send_for_kernel<I: Io>(core: &mut Core<I::Packet>) -> usize {
    let mut count = 0;
    while count < FROM_KERNEL
        && let Some(KernelPacket { interface, packet }) = core.kernel.receive()
    {
        count += 1;
        core.counters.began(Source::FromKernel, 1);
        let up = core.snapshot.interfaces.get(usize::from(interface.0)).is_some_and(|ours| ours.up);
        let verdict = if up { gather(core, interface, packet) } else { Some(Verdict::LinkDown) };
        if let Some(verdict) = verdict {
            core.counters.ended(verdict, 1);
        }
    }
    count
}
