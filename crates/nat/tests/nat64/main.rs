//! Translation between the families, as etherparse and tshark read what comes out of it.

use nat::nat64::{ErrorLayout, Mtus, Outcome, Settings, four_to_six, six_to_four};
use nat::rewrite::Layout;

use testkit::{Buf, Decoded, PacketBuilder, key, key6, pkt};
use types::{Address, FlowKey, FlowKey6, Now, Packet, Proto, Verdict};
use wire::{Kind, Parsed, extension};

mod errors;
mod headers;
mod round_trip;

const CLIENT6: &str = "2001:db8:c::7";
const VIP6: &str = "2001:db8:a::10";
const LIP4: &str = "198.18.0.10";
const RS4: &str = "198.18.0.121";
const MTUS: Mtus = Mtus { v4: 1500, v6: 1500 };
const PLAIN: Settings = Settings { tos: None, fragment_header: false };
const IDENT: u16 = 0x4321;

/// The key of packets from the client to the VIP, and what becomes of it.
fn keys(proto: u8) -> (FlowKey6, FlowKey) {
    let six = key6(proto, "[2001:db8:c::7]:40000", "[2001:db8:a::10]:80");
    let four = key(Proto::Tcp, "198.18.0.10:1025", "198.18.0.121:8080");
    let four_proto = if proto == 58 { 1 } else { proto };
    (six, FlowKey { proto: four_proto, ..four })
}

fn layout<A: Address>(parsed: &Parsed<A>) -> Layout {
    Layout { l3: parsed.l3.into(), l4: parsed.l4.into(), ip_len: parsed.ip_total_len.into() }
}

fn six() -> PacketBuilder {
    pkt().ipv6(CLIENT6, VIP6)
}

fn four() -> PacketBuilder {
    pkt().ipv4(RS4, LIP4)
}

/// What etherparse does not look into: fragments are parsed as such.
fn parsed6(buf: &mut Buf) -> Parsed<u128> {
    let is_part = Decoded::of(buf).is_ok_and(|decoded| {
        decoded.ipv6().fragment.is_some_and(|(_, offset, more)| offset != 0 || more)
    });
    if is_part { buf.parsed_fragment6() } else { buf.parsed6() }
}

fn parsed4(buf: &mut Buf) -> Parsed {
    let fragment = u16::from_be_bytes([buf[20], buf[21]]) & 0x3fff;
    if fragment != 0 { buf.parsed_fragment() } else { buf.parsed() }
}

fn to_four(packet: &PacketBuilder, settings: Settings) -> Result<(Buf, Outcome), Verdict> {
    let mut buf = packet.build();
    let parsed = parsed6(&mut buf);
    let (from, into) = keys(parsed.key.proto);
    let delta = six_to_four::l4_delta(&from, &into);
    six_to_four::translate(&mut buf, layout(&parsed), &into, delta, IDENT, settings)
        .map(|outcome| (buf, outcome))
}

/// From the server to its client.
fn to_six(packet: &PacketBuilder, settings: Settings) -> Result<(Buf, Outcome), Verdict> {
    let mut buf = packet.build();
    let parsed = parsed4(&mut buf);
    let six_proto = if parsed.key.proto == 1 { 58 } else { parsed.key.proto };
    let (into, from) = keys(six_proto);
    let (from, into) = (from.reversed(), into.reversed());
    let delta = four_to_six::l4_delta(&from, &into);
    four_to_six::translate(&mut buf, layout(&parsed), &into, delta, settings)
        .map(|outcome| (buf, outcome))
}
