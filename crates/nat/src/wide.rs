//! Replays a flow whose conn has an IPv6 side: within IPv6, from it to IPv4, or from IPv4 to it.
//!
//! Between the families the headers are exchanged first ([`crate::nat64`]), then what is above them is
//! rewritten as within one: numbers, timestamps, MSS and the client's address.
//!
//! A service that has servers of both families has its conns here whatever their sides are: those with none of
//! IPv6, too.

use flow::Flow;
use types::{Packet, Proto, Verdict, unmap_v4};
use wire::extension::FRAGMENT_LEN;
use wire::{Ipv4, Piece, checksum, chunk_at_mut, icmpv4, icmpv6};

use crate::fullnat::{ONE_PACKET_ZONE, ONE_PACKET_ZONE_V6};
use crate::icmp::{self, translate_quoted_numbers};
use crate::icmp6;
use crate::nat64::six_to_four::MAY_BE_FRAGMENTED_MAX;
use crate::nat64::{self, ErrorLayout, Mtus, Settings, four_to_six, six_to_four};
use crate::options::Sum;
use crate::rewrite::{self, Layout, Outcome};

/// The families that a flow's packets have, as they arrive and as they leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sides {
    /// IPv6 both.
    Six,
    /// From IPv6 to IPv4.
    SixToFour,
    /// From IPv4 to IPv6.
    FourToSix,
    /// IPv4 both.
    Four,
}

impl Sides {
    /// Those of a flow.
    #[inline(always)]
    pub fn of(flow: &Flow<u128>) -> Self {
        let arrives_as_v4 = match flow.zone {
            ONE_PACKET_ZONE => true,
            ONE_PACKET_ZONE_V6 => false,
            _ => unmap_v4(flow.dst).is_some(),
        };
        match (arrives_as_v4, unmap_v4(flow.new_dst).is_some()) {
            (true, true) => Self::Four,
            (false, true) => Self::SixToFour,
            (true, false) => Self::FourToSix,
            (false, false) => Self::Six,
        }
    }

    /// How long a packet that is no fragment is when it has been translated, without what is inserted, in bytes.
    #[inline]
    pub const fn len_after(self, layout: Layout) -> usize {
        let Layout { l3, l4, ip_len } = layout;
        let transport = ip_len.saturating_sub(l4.saturating_sub(l3));
        match self {
            Self::Six | Self::Four => ip_len,
            Self::SixToFour => transport + wire::ipv4::LEN,
            Self::FourToSix => transport + wire::ipv6::LEN,
        }
    }
}

/// How long a packet of `flow` is when it has been translated, without what is inserted, in bytes.
#[inline]
pub fn len_after(bytes: &[u8], layout: Layout, flow: &Flow<u128>) -> usize {
    let sides = Sides::of(flow);
    let is_part = |ip: Ipv4<&_>| Piece::of_ipv4(ip).is_part();
    // RFC 7915 §4.1: a fragment gets a header for that.
    let longer = sides == Sides::FourToSix && Ipv4::at(bytes, layout.l3).is_some_and(is_part);
    sides.len_after(layout) + if longer { FRAGMENT_LEN } else { 0 }
}

/// Whether a packet of IPv6 may be fragmented as the packet of IPv4 that it becomes (RFC 7915 §5.1).
pub const fn may_be_cut(layout: Layout) -> bool {
    Sides::SixToFour.len_after(layout) <= MAY_BE_FRAGMENTED_MAX
}

/// Translates a packet of `flow` in place, as [`rewrite::apply`] does. Its frame may have another EtherType
/// then, and its IP packet another length.
///
/// # Errors
/// As [`rewrite::apply`], and [`Verdict::Untranslatable`] for what has no translation to the other family;
/// the packet is unchanged then.
///
/// What is longer than `mtu` on its way to IPv6 becomes a fragment that is the whole packet yet, to be cut
/// (RFC 7915 §4). `ident` is what the fragments of a packet of IPv4 are told apart by that was one of IPv6: of all
/// packets between the two addresses, each has another for as long as it may be on its way (RFC 6864 §4.1).
#[inline]
pub fn apply<P: Packet>(
    packet: &mut P,
    layout: Layout,
    flow: &Flow<u128>,
    show_client: bool,
    mtu: usize,
    ident: u16,
) -> Result<Outcome, Verdict> {
    let sides = Sides::of(flow);
    match sides {
        Sides::Six => return rewrite::apply(packet, layout, flow, show_client, mtu),
        Sides::Four => {
            let flow = flow.narrow().ok_or(Verdict::Internal)?;
            return rewrite::apply(packet, layout, &flow, show_client, mtu);
        }
        Sides::SixToFour | Sides::FourToSix => {}
    }
    let settings =
        Settings { fragment_header: sides.len_after(layout) > mtu, ..Settings::default() };
    let translated = exchange_headers(packet, layout, flow, ident, settings)?;
    let outcome = Outcome { summed: translated.summed, ..Outcome::default() };
    if flow.proto != Proto::Tcp.number() {
        return Ok(outcome);
    }
    let finished = rewrite::finish_tcp(packet, translated.layout, flow, 0, show_client, mtu)?;
    Ok(Outcome { toa: finished.toa, ..outcome })
}

/// Gives a packet the header of the other family, and the transport its ports.
#[inline]
fn exchange_headers<P: Packet>(
    packet: &mut P,
    layout: Layout,
    flow: &Flow<u128>,
    ident: u16,
    settings: Settings,
) -> Result<nat64::Outcome, Verdict> {
    let into = flow.new_key();
    match into.unmapped() {
        Some(into) => six_to_four::translate(packet, layout, &into, flow.l4_delta, ident, settings),
        None => four_to_six::translate(packet, layout, &into, flow.l4_delta, settings),
    }
}

/// Translates a fragment but the first of a packet of `flow`, as [`rewrite::apply_to_fragment`] does.
///
/// # Errors
/// As [`apply`].
pub fn apply_to_fragment<P: Packet>(
    packet: &mut P,
    layout: Layout,
    flow: &Flow<u128>,
) -> Result<(), Verdict> {
    match Sides::of(flow) {
        Sides::Six => rewrite::apply_to_fragment(packet, layout, flow),
        Sides::Four => {
            let flow = flow.narrow().ok_or(Verdict::Internal)?;
            rewrite::apply_to_fragment(packet, layout, &flow)
        }
        Sides::SixToFour | Sides::FourToSix => {
            // It has an identification.
            exchange_headers(packet, layout, flow, 0, Settings::default()).map(|_| ())
        }
    }
}

/// Translates an ICMP error that arrives along `flow`, in place, as [`crate::icmp::translate`] does.
/// `mtus` are those of the ways to both sides.
///
/// The checksum is to have been verified, and the message to be wholly in the first segment.
///
/// # Errors
/// [`Verdict::TtlExceeded`], [`Verdict::Untranslatable`] and [`Verdict::BadIcmp`]; the packet may be
/// changed then and is good for dropping only, but for a TTL that was used up.
pub fn translate_error<P: Packet>(
    packet: &mut P,
    at: ErrorLayout,
    flow: &Flow<u128>,
    inserted: u16,
    mtus: Mtus,
) -> Result<(), Verdict> {
    let sides = Sides::of(flow);
    if sides == Sides::Six {
        let inner = (at.inner_l3, at.inner_l4);
        return icmp6::translate(packet, at.outer, inner, flow, inserted);
    }
    if let Some(flow) = flow.narrow().filter(|_| sides == Sides::Four) {
        return icmp::translate(packet, at.outer, &flow, inserted);
    }
    let ttl_at = if sides == Sides::FourToSix { 8 } else { 7 };
    if packet.bytes().get(at.outer.l3 + ttl_at).is_none_or(|ttl| *ttl <= 1) {
        return Err(Verdict::TtlExceeded);
    }
    adjust_error(packet.bytes_mut(), at, flow, inserted)?;
    let (quoted, settings) = (flow.new_key().reversed(), Settings::default());
    match (quoted.unmapped(), unmap_v4(flow.new_src), unmap_v4(flow.new_dst)) {
        (Some(quoted), Some(src), Some(dst)) => {
            six_to_four::translate_error(packet, at, (src, dst), &quoted, mtus, settings)?;
        }
        _ => {
            let ends = (flow.new_src, flow.new_dst);
            four_to_six::translate_error(packet, at, ends, &quoted, mtus, settings)?;
        }
    }
    Ok(())
}

/// What the sender of the quoted packet knows of it: its own numbers, and of an MTU what is left of it beside
/// what we insert. All else is the translation's.
fn adjust_error(
    bytes: &mut [u8],
    at: ErrorLayout,
    flow: &Flow<u128>,
    inserted: u16,
) -> Result<(), Verdict> {
    let (Layout { l3, l4, ip_len }, inner_l4) = (at.outer, at.inner_l4);
    let end = (l3 + ip_len).min(bytes.len());
    let bytes = bytes.get_mut(..end).ok_or(Verdict::Internal)?;
    let mut edits = Sum::default();
    let checksum_at = translate_quoted_numbers(bytes, inner_l4, flow, &mut edits);
    let mut sum = Sum::of(edits.fold());
    if let Some(field) = chunk_at_mut::<2>(bytes, checksum_at).filter(|_| edits.fold() != 0) {
        let old = u16::from_be_bytes(*field);
        let new = checksum::apply(old, edits.fold());
        *field = new.to_be_bytes();
        sum.add(checksum::delta_u16(old, new));
    }
    let quoted_len = Ipv4::at(bytes, at.inner_l3).map_or(0, |quoted| quoted.total_len());
    let icmp = chunk_at_mut::<8>(bytes, l4).ok_or(Verdict::Internal)?;
    let too_big = match Sides::of(flow) {
        Sides::FourToSix => {
            [icmp[0], icmp[1]] == [icmpv4::UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED]
        }
        Sides::SixToFour | Sides::Six | Sides::Four => icmp[0] == icmpv6::PACKET_TOO_BIG,
    };
    if too_big {
        // Of both families it stands in the low half of the word, as far as packets can be so long.
        let old = u16::from_be_bytes([icmp[6], icmp[7]]);
        // 0 comes from a router older than RFC 1191. IPv6 has no such; what did not pass is longer by what we inserted.
        let new = match old {
            0 if icmp[0] == icmpv4::UNREACHABLE => {
                nat64::plateau_below(quoted_len.saturating_sub(inserted))
            }
            told => told.saturating_sub(inserted).max(1),
        };
        [icmp[6], icmp[7]] = new.to_be_bytes();
        sum.add(checksum::delta_u16(old, new));
    }
    let changed = checksum::apply(u16::from_be_bytes([icmp[2], icmp[3]]), sum.fold());
    [icmp[2], icmp[3]] = changed.to_be_bytes();
    Ok(())
}
