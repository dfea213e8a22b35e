//! The wide lane: conns that have an IPv6 side. Where a side is IPv4 its addresses are mapped ones, and its packets
//! are IPv4's.

use balance::ServiceSpec;
use fib::{Fib, Owner};
use flow::{Flow, FlowTable};
use nat::nat64::{ErrorLayout, Mtus};
use nat::rewrite::{Layout, Outcome};
use nat::wide::{self, Sides};
use pool::{GroupKey, LeaseError};
use types::{Address as _, EthPortId, Packet, Verdict, map_v4, unmap_v4};
use wire::reply::{ErrorMessage, Reset};
use wire::segment::Segment;
use wire::{Kind, Parsed6, icmpv4, icmpv6};

use super::{Hop, Lane, Pools};
use crate::path::{fragment, lips, oversized};
use crate::snapshot::Snapshot;
use crate::worker::Core;
use crate::worker::handoff::Handoff;

/// How much longer an IPv6 header is than one of IPv4.
const DIFFERENCE: u16 = (wire::ipv6::LEN - wire::ipv4::LEN) as u16;
/// The same of a fragment.
const FRAGMENTED: u16 = DIFFERENCE + wire::extension::FRAGMENT_LEN as u16;

impl Lane for u128 {
    #[inline(always)]
    fn table<P>(core: &Core<P>) -> &FlowTable<Self> {
        &core.wide.table
    }

    #[inline(always)]
    fn table_mut<P>(core: &mut Core<P>) -> &mut FlowTable<Self> {
        &mut core.wide.table
    }

    #[inline(always)]
    fn parts<P>(core: &mut Core<P>) -> (&Snapshot, &mut FlowTable<Self>) {
        (&core.snapshot, &mut core.wide.table)
    }

    #[inline(always)]
    fn handoff_mut<P>(core: &mut Core<P>) -> &mut Handoff<P, Self> {
        &mut core.wide.handoff
    }

    #[inline]
    fn owner(fib: &Fib, address: Self) -> Option<Owner> {
        match unmap_v4(address) {
            Some(address) => fib.owner(address),
            None => fib.owner(address),
        }
    }

    #[inline]
    fn hop(fib: &Fib, address: Self) -> Option<Hop> {
        if let Some(address) = unmap_v4(address) {
            return u32::hop(fib, address);
        }
        let route = fib.route(address)?;
        let target = route.target(address).to_ip();
        Some(Hop { kind: route.kind, iface: route.iface, mtu: route.mtu, target })
    }

    #[inline]
    fn mtu_floor(fib: &Fib) -> u16 {
        fib.mtu_floor().min(fib.mtu_floor_of::<Self>())
    }

    #[inline]
    fn len_after<P: Packet>(packet: &P, flow: &Flow<Self>, parsed: &Parsed6) -> u16 {
        let len = wide::len_after(packet.bytes(), Layout::from(parsed), flow);
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        match (parsed.kind, Sides::of(flow)) {
            // RFC 4443 §2.4 c: it is cut to what fits every way.
            (Kind::IcmpError, Sides::FourToSix) => len.min(wire::ipv6::MIN_MTU),
            _ => len,
        }
    }

    fn told_mtu(flow: &Flow<Self>, mtu: u16) -> u16 {
        match Sides::of(flow) {
            Sides::Four => mtu,
            // RFC 8200 §5: no link of theirs has less. Nobody is told less, then (RFC 8201 §4): what is inserted is left out.
            Sides::Six => mtu.max(wire::ipv6::MIN_MTU),
            Sides::SixToFour => mtu.saturating_add(DIFFERENCE).max(wire::ipv6::MIN_MTU),
            Sides::FourToSix => mtu.saturating_sub(DIFFERENCE),
        }
    }

    #[inline]
    fn apply<P: Packet>(
        packet: &mut P,
        layout: Layout,
        flow: &Flow<Self>,
        show_client: bool,
        mtu: usize,
        ident: u16,
    ) -> Result<Outcome, Verdict> {
        wide::apply(packet, layout, flow, show_client, mtu, ident)
    }

    #[inline(always)]
    fn next_ident<P>(core: &mut Core<P>) -> u16 {
        core.wide.ident = core.wide.ident.wrapping_add(1);
        core.wide.ident
    }

    fn leaves_no_room<P: Packet>(
        packet: &P,
        parsed: &Parsed6,
        flow: &Flow<Self>,
        inserted: u16,
    ) -> bool {
        // RFC 8201 §4: no sender goes below.
        let most = u32::from(wire::ipv6::MIN_MTU + inserted);
        Sides::of(flow) == Sides::Six
            && parsed.icmp_type == icmpv6::PACKET_TOO_BIG
            && wire::Icmpv6::at(packet.bytes(), parsed.l4.into()).is_some_and(|it| it.rest() < most)
    }

    fn apply_to_fragment<P: Packet>(
        packet: &mut P,
        layout: Layout,
        flow: &Flow<Self>,
    ) -> Result<(), Verdict> {
        wide::apply_to_fragment(packet, layout, flow)
    }

    fn translate_error<P: Packet>(
        packet: &mut P,
        parsed: &Parsed6,
        flow: &Flow<Self>,
        inserted: u16,
        fib: &Fib,
    ) -> Result<(), Verdict> {
        let mtu = |address| Self::hop(fib, address).map_or(u16::MAX, |hop| hop.mtu);
        // It came by the way that the quoted packet went, and goes on by the one that it came.
        let (there, here) = (mtu(flow.src), mtu(flow.new_dst));
        let mtus = match Sides::of(flow) {
            Sides::FourToSix => Mtus { v4: there, v6: here },
            _ => Mtus { v4: here, v6: there },
        };
        wide::translate_error(packet, ErrorLayout::from(parsed), flow, inserted, mtus)
    }

    fn can_be_cut<P: Packet>(packet: &P, parsed: &Parsed6, flow: &Flow<Self>, mtu: u16) -> bool {
        match Sides::of(flow) {
            Sides::Four => oversized::can_be_cut(packet, parsed.l3.into(), mtu),
            Sides::SixToFour => wide::may_be_cut(Layout::from(parsed)),
            // RFC 7915 §4: into as many fragments as the packet itself for so much smaller an MTU.
            Sides::FourToSix => {
                oversized::can_be_cut(packet, parsed.l3.into(), mtu.saturating_sub(FRAGMENTED))
            }
            // RFC 8200 §4.5: by their sender alone.
            Sides::Six => false,
        }
    }

    fn is_first_fragment<P: Packet>(packet: &P, parsed: &Parsed6) -> bool {
        match parsed.unmapped() {
            Some(parsed) => fragment::is_first(packet, &parsed),
            None => fragment::is_first6(packet, parsed),
        }
    }

    fn layout_after(flow: &Flow<Self>, layout: Layout) -> Layout {
        let sides = Sides::of(flow);
        let header = match sides {
            Sides::Six | Sides::Four => return layout,
            Sides::SixToFour => wire::ipv4::LEN,
            Sides::FourToSix => wire::ipv6::LEN,
        };
        Layout { l3: layout.l3, l4: layout.l3 + header, ip_len: sides.len_after(layout) }
    }

    fn reset_reply<P: Packet>(packet: &mut P, parsed: &Parsed6) -> bool {
        match parsed.unmapped() {
            Some(parsed) => wire::reply::reset_reply(packet, &parsed),
            None => wire::reply::reset_reply6(packet, parsed),
        }
    }

    fn write_reset(bytes: &mut [u8], reset: &Reset<Self>) -> Option<usize> {
        let Reset { eth_destination, eth_source, vlan, key, seq, ack } = *reset;
        match key.unmapped() {
            Some(key) => {
                let reset = Reset { eth_destination, eth_source, vlan, key, seq, ack };
                wire::reply::write_reset(bytes, &reset)
            }
            None => wire::reply::write_reset6(bytes, reset),
        }
    }

    fn write_segment(bytes: &mut [u8], segment: &Segment<'_, Self>) -> Option<usize> {
        let Segment { key, seq, ack, window, timestamps, payload } = *segment;
        match key.unmapped() {
            Some(key) => {
                let segment = Segment { key, seq, ack, window, timestamps, payload };
                wire::segment::write_segment(bytes, &segment)
            }
            None => wire::segment::write_segment6(bytes, segment),
        }
    }

    fn error_source<P: Packet>(
        fib: &Fib,
        interface: EthPortId,
        packet: &P,
        parsed: &Parsed6,
        message: ErrorMessage,
    ) -> Option<Self> {
        if let Some(parsed) = parsed.unmapped() {
            return u32::error_source(fib, interface, packet, &parsed, message).map(map_v4);
        }
        let may =
            wire::reply::may_answer_with_error6(packet.bytes(), parsed, in_words_of_6(message));
        let hinted = fib.route(parsed.key.src).and_then(|route| route.src);
        hinted.or_else(|| fib.icmp_source(interface)).filter(|_| may)
    }

    fn icmp_error<P: Packet>(
        packet: &mut P,
        parsed: &Parsed6,
        message: ErrorMessage,
        source: Self,
    ) -> bool {
        match (parsed.unmapped(), unmap_v4(source)) {
            (Some(parsed), Some(source)) => {
                wire::reply::icmp_error(packet, &parsed, message, source)
            }
            _ => wire::reply::icmp6_error(packet, parsed, in_words_of_6(message), source),
        }
    }

    fn lease(
        pools: &mut Pools<'_>,
        spec: &ServiceSpec,
        next: &mut u32,
        group: GroupKey<Self>,
    ) -> Option<(Self, u16)> {
        if let Some(rs) = unmap_v4(group.rs) {
            let GroupKey { rport, proto, .. } = group;
            let leased = u32::lease(pools, spec, next, GroupKey { lip: 0, rs, rport, proto })?;
            return Some((map_v4(leased.0), leased.1));
        }
        let Pools { v6, classes, .. } = pools;
        lips::lease(&spec.lips_v6, next, |lip| v6.take(&GroupKey { lip, ..group }, *classes))
    }

    fn take_exact(
        pools: &mut Pools<'_>,
        group: &GroupKey<Self>,
        l4_port: u16,
    ) -> Result<(), LeaseError> {
        match unmapped(group) {
            Some(group) => pools.v4.take_exact(&group, l4_port),
            None => pools.v6.take_exact(group, l4_port),
        }
    }

    fn give_back(
        pools: &mut Pools<'_>,
        group: &GroupKey<Self>,
        l4_port: u16,
        rest: Option<u32>,
    ) -> bool {
        match unmapped(group) {
            Some(group) => pools.v4.give_back(&group, l4_port, rest),
            None => pools.v6.give_back(group, l4_port, rest),
        }
    }
}

/// The group of an IPv4 LIP, whoever the client is.
fn unmapped(group: &GroupKey<u128>) -> Option<GroupKey> {
    let GroupKey { lip, rs, rport, proto } = *group;
    Some(GroupKey { lip: unmap_v4(lip)?, rs: unmap_v4(rs)?, rport, proto })
}

/// What an ICMP error of ours says, as ICMPv6 says it (RFC 4443 §3, RFC 8201 §4).
const fn in_words_of_6(message: ErrorMessage) -> ErrorMessage {
    let ErrorMessage { icmp_type, code, rest } = message;
    match (icmp_type, code) {
        (icmpv4::TIME_EXCEEDED, _) => ErrorMessage::HOP_LIMIT_EXCEEDED,
        (_, icmpv4::FRAGMENTATION_NEEDED) => ErrorMessage::packet_too_big(rest as u16),
        (_, icmpv4::PORT_UNREACHABLE) => ErrorMessage::unreachable6(icmpv6::PORT_UNREACHABLE),
        (_, icmpv4::HOST_UNREACHABLE) => ErrorMessage::unreachable6(icmpv6::ADDRESS_UNREACHABLE),
        (_, icmpv4::PROHIBITED) => ErrorMessage::unreachable6(icmpv6::PROHIBITED),
        _ => ErrorMessage::unreachable6(icmpv6::NO_ROUTE),
    }
}
