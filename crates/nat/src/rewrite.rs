//! Replays a flow's stored rewrite on a packet of it.

use flow::{Flow, flags};
use types::{Address, FlowKey, Packet, Proto, Verdict};
use wire::{checksum, chunk_at_mut};

use crate::options::{self, Edits, Sum};
use crate::{Family, toa};

/// Where the headers of a packet stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of the transport header.
    pub l4: usize,
    /// Length of the IP packet in bytes, without Ethernet padding.
    pub ip_len: usize,
}

impl<A: Address> From<&wire::Parsed<A>> for Layout {
    #[inline(always)]
    fn from(parsed: &wire::Parsed<A>) -> Self {
        Self {
            l3: usize::from(parsed.l3),
            l4: usize::from(parsed.l4),
            ip_len: usize::from(parsed.ip_total_len),
        }
    }
}

/// The differences that exchanging addresses and ports makes to checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deltas {
    /// The addresses' alone: to the IPv4 header's.
    pub l3: u16,
    /// To TCP's or UDP's: addresses (in the pseudo-header) and ports. To an ICMP query's: the
    /// identifier. To others': nothing.
    pub l4: u16,
}

/// What turning packets of key `from` into packets of key `into` does to their checksums.
pub fn deltas<A: Family>(from: FlowKey<A>, into: FlowKey<A>) -> Deltas {
    let l3 = checksum::add(A::delta(from.src, into.src), A::delta(from.dst, into.dst));
    let sport = checksum::delta_u16(from.sport, into.sport);
    let l4 = match Proto::from_number(from.proto) {
        Some(Proto::Tcp | Proto::Udp) => {
            let l4_ports = checksum::add(sport, checksum::delta_u16(from.dport, into.dport));
            checksum::add(l3, l4_ports)
        }
        // No pseudo-header, and one identifier that stands for both ports (RFC 792).
        Some(Proto::Icmp) => sport,
        None => 0,
    };
    Deltas { l3, l4 }
}

/// What `apply` did besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What became of the client's address, if it was to be shown.
    pub toa: Option<toa::Inserted>,
    /// A datagram came without a checksum and has got one: IPv6 asks for it.
    pub summed: bool,
}

const TCP_SYN: u8 = 0x02;
const TCP_RST: u8 = 0x04;
const TCP_ACK: u8 = 0x10;

/// Translates a packet of `flow`, both of whose sides are of its own family, in place: TTL, addresses, ports, and for TCP sequence numbers,
/// timestamps, SACK edges, the MSS and the client's address. The payload is not touched.
///
/// `show_client` says that the packet is in the window in which the client's address is shown;
/// `mtu` is that of the way out.
///
/// # Errors
/// [`Verdict::TtlExceeded`] with the packet unchanged; [`Verdict::Internal`] if the layout is not
/// this packet's.
#[inline]
pub fn apply<P: Packet, A: Family>(
    packet: &mut P,
    layout: Layout,
    flow: &Flow<A>,
    show_client: bool,
    mtu: usize,
) -> Result<Outcome, Verdict> {
    let bytes = packet.bytes_mut();
    A::translate_l3(bytes, layout.l3, flow)?;
    if flow.proto != Proto::Tcp.number() {
        if flow.proto == Proto::Udp.number() {
            translate_udp(bytes, layout.l4, flow)?;
        } else if flow.proto == Proto::Icmp.number() {
            translate_query(bytes, layout.l4, flow)?;
        }
        return Ok(Outcome::default());
    }
    finish_tcp(packet, layout, flow, flow.l4_delta, show_client, mtu)
}

/// What there is to do above the network header of a segment: ports, numbers, options and the client's
/// address. `delta` is the difference that the new tuple makes, as far as the checksum has it not yet.
#[inline(always)]
pub(crate) fn finish_tcp<P: Packet, A: Family>(
    packet: &mut P,
    layout: Layout,
    flow: &Flow<A>,
    delta: u16,
    show_client: bool,
    mtu: usize,
) -> Result<Outcome, Verdict> {
    let tcp_flags = translate_tcp(packet.bytes_mut(), layout.l4, flow, delta)?;
    if !show_client || tcp_flags & (TCP_SYN | TCP_RST) != 0 {
        return Ok(Outcome::default());
    }
    let client = (flow.src, flow.sport);
    Ok(Outcome { toa: Some(toa::insert(packet, layout, client, mtu)?), ..Outcome::default() })
}

/// Translates a fragment but the first of a packet of `flow`, both of whose sides are of its own family: it has no
/// header above IP, and what changes in the first one's changes nothing here (RFC 4787 REQ-14).
///
/// # Errors
/// As [`apply`].
pub fn apply_to_fragment<P: Packet, A: Family>(
    packet: &mut P,
    layout: Layout,
    flow: &Flow<A>,
) -> Result<(), Verdict> {
    A::translate_l3(packet.bytes_mut(), layout.l3, flow)
}

#[inline(always)]
fn translate_udp<A>(bytes: &mut [u8], at: usize, flow: &Flow<A>) -> Result<(), Verdict> {
    let udp = chunk_at_mut::<8>(bytes, at).ok_or(Verdict::Internal)?;
    [udp[0], udp[1]] = flow.new_sport.to_be_bytes();
    [udp[2], udp[3]] = flow.new_dport.to_be_bytes();
    let sum = checksum::apply_udp(u16::from_be_bytes([udp[6], udp[7]]), flow.l4_delta);
    [udp[6], udp[7]] = sum.to_be_bytes();
    Ok(())
}

/// An ICMP query or reply has a new identifier (RFC 5508 REQ-1 a).
#[cold]
fn translate_query<A>(bytes: &mut [u8], at: usize, flow: &Flow<A>) -> Result<(), Verdict> {
    let icmp = chunk_at_mut::<8>(bytes, at).ok_or(Verdict::Internal)?;
    let sum = checksum::apply(u16::from_be_bytes([icmp[2], icmp[3]]), flow.l4_delta);
    // 0 would be wrong for a message that is nothing but zeros, and 0xffff is right for every one.
    let sum = checksum::udp_never_zero(sum);
    [icmp[2], icmp[3]] = sum.to_be_bytes();
    [icmp[4], icmp[5]] = flow.new_sport.to_be_bytes();
    Ok(())
}

/// Lowers the MSS of a SYN to what fits through an MTU: `mss_max` bytes. Nothing happens to other
/// packets, and an MSS is never raised. True if it was lowered.
pub fn clamp_mss<P: Packet>(packet: &mut P, layout: Layout, mss_max: u16) -> bool {
    let bytes = packet.bytes_mut();
    let Some(tcp) = chunk_at_mut::<20>(bytes, layout.l4) else { return false };
    let header_len = usize::from(tcp[12] >> 4) * 4;
    if tcp[13] & TCP_SYN == 0 || header_len <= 20 {
        return false;
    }
    let Some(options) = bytes.get_mut(layout.l4 + 20..layout.l4 + header_len) else { return false };
    let Some(sum) = options::clamp_mss(options, mss_max) else { return false };
    if let Some(tcp) = chunk_at_mut::<20>(bytes, layout.l4) {
        let changed = checksum::apply(u16::from_be_bytes([tcp[16], tcp[17]]), sum.fold());
        [tcp[16], tcp[17]] = changed.to_be_bytes();
    }
    true
}

/// Returns the packet's TCP flags.
#[inline(always)]
fn translate_tcp<A: Address>(
    bytes: &mut [u8],
    at: usize,
    flow: &Flow<A>,
    delta: u16,
) -> Result<u8, Verdict> {
    let tcp = chunk_at_mut::<20>(bytes, at).ok_or(Verdict::Internal)?;
    [tcp[0], tcp[1]] = flow.new_sport.to_be_bytes();
    [tcp[2], tcp[3]] = flow.new_dport.to_be_bytes();
    let tcp_flags = tcp[13];
    let header_len = usize::from(tcp[12] >> 4) * 4;
    let mut sum = Sum::of(delta);
    if flow.flags & flags::ADJUST_SEQ != 0 {
        options::shift(tcp, 4, flow.seq_offset, &mut sum);
    }
    // The field means nothing without the flag (RFC 9293 §3.1).
    if flow.flags & flags::ADJUST_ACK != 0 && tcp_flags & TCP_ACK != 0 {
        options::shift(tcp, 8, flow.seq_offset.wrapping_neg(), &mut sum);
    }
    if header_len > 20 {
        let edits = edits(flow, tcp_flags);
        let options = bytes.get_mut(at + 20..at + header_len).ok_or(Verdict::Internal)?;
        sum.add(options::edit(options, &edits).fold());
    }
    let tcp = chunk_at_mut::<20>(bytes, at).ok_or(Verdict::Internal)?;
    let changed = checksum::apply(u16::from_be_bytes([tcp[16], tcp[17]]), sum.fold());
    [tcp[16], tcp[17]] = changed.to_be_bytes();
    Ok(tcp_flags)
}

#[inline(always)]
fn edits<A: Address>(flow: &Flow<A>, tcp_flags: u8) -> Edits {
    let reverse = flow.flags & flags::REVERSE != 0;
    let syn = tcp_flags & TCP_SYN != 0;
    let timestamps = if flow.flags & flags::ADJUST_TS != 0 { flow.ts_offset } else { 0 };
    if reverse {
        Edits {
            // TSecr means nothing without ACK (RFC 7323 §3.2).
            tsecr: if tcp_flags & TCP_ACK != 0 { timestamps.wrapping_neg() } else { 0 },
            sack: if flow.flags & flags::ADJUST_ACK != 0 {
                flow.seq_offset.wrapping_neg()
            } else {
                0
            },
            mss_less: if syn && flow.flags & flags::TOA != 0 { toa::len(flow.new_dst) } else { 0 },
            ..Edits::default()
        }
    } else {
        // Of FullNAT: whichever segment it stands in, the server would believe it to be ours.
        let strip_toa = flow.flags & flags::ADJUST_SEQ != 0;
        Edits { tsval: timestamps, strip_toa, ..Edits::default() }
    }
}
