//! Fragments of our own making, of both families: etherparse reads them and puts them together again.

use etherparse::defrag::IpDefragBuf;
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv4HeaderSlice, Ipv6Header};
use proptest::prelude::*;
use testkit::{Buf, PacketBuilder, pkt};
use types::{Packet, Verdict};
use wire::Cut;

const L3: usize = 14;
/// Padding, router alert, which is to be copied, timestamp and route, which are not, and the end.
const OPTIONS: [u8; 16] = [1, 148, 4, 0, 0, 68, 4, 5, 0, 7, 3, 4, 1, 1, 1, 0];
const ALERT: [u8; 4] = [148, 4, 0, 0];

fn empty(tailroom: usize) -> Buf {
    Buf::with_room(&[], 128, tailroom)
}

/// All fragments of a packet, in order.
fn cut(mut packet: Buf, mtu: u16) -> Option<Vec<Buf>> {
    let cut = Cut::new(packet.bytes(), L3, mtu)?;
    let later = |n| {
        let mut fragment = empty(2048);
        cut.write(&packet, n, &mut fragment).map(|()| fragment)
    };
    assert_eq!(later(cut.later()), Err(Verdict::Internal), "one too many");
    let mut fragments: Vec<Buf> = (0..cut.later()).map(|n| later(n).unwrap()).collect();
    cut.shorten(&mut packet);
    fragments.insert(0, packet);
    Some(fragments)
}

fn header(frame: &[u8]) -> Ipv4Header {
    Ipv4HeaderSlice::from_slice(&frame[L3..]).unwrap().to_header()
}

fn raw(payload: &[u8]) -> PacketBuilder {
    pkt().ipv4("10.0.0.1", "10.0.0.2").ident(77).ttl(9).tos(0x28).payload(payload)
}

proptest! {
    /// RFC 791 §3.2: of whole packets and of fragments, with options and without, in any segments.
    #[test]
    fn fragments_make_the_packet_again(
        payload in proptest::collection::vec(any::<u8>(), 1..3000),
        mtu in 68_u16..1500, with_options: bool, offset in 0_u16..4000, more: bool, first_len in 74_usize..400,
    ) {
        let mut payload = payload;
        if more {
            payload.resize(payload.len().next_multiple_of(8), 1);
        }
        let options = if with_options { &OPTIONS[..] } else { &[] };
        let packet = raw(&payload).ip_options(options).fragment(offset * 8, more).padded();
        let whole = header(&packet.frame());
        let fragments = cut(packet.segmented(first_len).build(), mtu).unwrap();
        let count = fragments.len();
        let mut again = IpDefragBuf::new(IpNumber(253), Vec::new(), Vec::new());
        for (n, fragment) in fragments.iter().enumerate() {
            let header = header(fragment.frame());
            prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
            prop_assert_eq!(usize::from(header.total_len), fragment.total_len() - L3);
            prop_assert!(header.total_len <= mtu && (count > 1) == (whole.total_len > mtu));
            prop_assert_eq!(header.more_fragments, more || n + 1 < count);
            let kept = match (n, with_options) {
                (0, _) => options,
                (_, true) => &ALERT,
                (_, false) => &[],
            };
            prop_assert_eq!(&header.options[..], kept);
            let as_whole = Ipv4Header {
                total_len: whole.total_len,
                more_fragments: whole.more_fragments,
                fragment_offset: whole.fragment_offset,
                header_checksum: whole.header_checksum,
                options: whole.options.clone(),
                ..header.clone()
            };
            prop_assert_eq!(&as_whole, &whole);
            prop_assert_eq!(&fragment.frame()[..L3], &packet_head());
            let from = IpFragOffset::try_new(header.fragment_offset.value() - offset).unwrap();
            let data = &fragment.frame()[L3 + header.header_len()..];
            again.add(from, n + 1 < count, data).unwrap();
        }
        prop_assert!(again.is_complete());
        prop_assert_eq!(again.data(), &payload);
    }

    /// RFC 8200 §4.5: of whole packets, with a fragment header already, and of fragments.
    #[test]
    fn fragments_of_ipv6_make_the_packet_again(
        payload in proptest::collection::vec(any::<u8>(), 1..5000),
        mtu in 1280_u16..1500, offset in 0_u16..4000, more: bool, first_len in 74_usize..400,
    ) {
        let mut payload = payload;
        if more {
            payload.resize(payload.len().next_multiple_of(8), 1);
        }
        let packet = raw6(&payload).fragment6(offset * 8, more, 0x4242);
        let (whole, _) = Ipv6Header::from_slice(&packet.frame()[L3..]).unwrap();
        let fragments = cut(packet.segmented(first_len).build(), mtu).unwrap();
        let count = fragments.len();
        prop_assert_eq!(count, payload.len().div_ceil(usize::from(mtu - 48) & !7));
        let mut again = IpDefragBuf::new(IpNumber(253), Vec::new(), Vec::new());
        for (n, fragment) in fragments.iter().enumerate() {
            let (header, rest) = Ipv6Header::from_slice(&fragment.frame()[L3..]).unwrap();
            prop_assert_eq!(usize::from(header.payload_length) + 40, fragment.total_len() - L3);
            prop_assert!(header.payload_length + 40 <= mtu);
            let as_whole = Ipv6Header { payload_length: whole.payload_length, ..header };
            prop_assert_eq!(&as_whole, &whole);
            // By hand: etherparse reads the offset from other bits.
            let (head, data) = rest.split_at(8);
            let field = u16::from_be_bytes([head[2], head[3]]);
            prop_assert_eq!([&head[..2], &head[4..]].concat(), [253, 0, 0, 0, 0x42, 0x42]);
            prop_assert_eq!(field & 7, u16::from(more || n + 1 < count));
            prop_assert_eq!(&fragment.frame()[..L3], &raw6(&[]).frame()[..L3]);
            let from = IpFragOffset::try_new((field >> 3) - offset).unwrap();
            again.add(from, n + 1 < count, data).unwrap();
        }
        prop_assert!(again.is_complete());
        prop_assert_eq!(again.data(), &payload);
    }
}

fn packet_head() -> [u8; L3] {
    raw(&[]).frame()[..L3].try_into().unwrap()
}

fn raw6(payload: &[u8]) -> PacketBuilder {
    pkt().ipv6("2001:db8::1", "2001:db8::2").ttl(9).tos(0x28).protocol(253).payload(payload)
}

#[test]
fn what_may_not_be_cut_is_not() {
    let packet = raw(&[7; 1000]);
    assert_eq!(cut(packet.build(), 576).unwrap().len(), 2);
    assert!(cut(packet.clone().df().build(), 576).is_none(), "don't fragment");
    assert!(cut(packet.build(), 27).is_none(), "no room for eight bytes");
    assert_eq!(cut(packet.build(), 28).unwrap().len(), 125);
    assert!(cut(packet.clone().fragment(65_528, false).build(), 576).is_none(), "too long");
    // Only who sends a packet of IPv6 may fragment it, and that shows in a header for it.
    assert!(cut(raw6(&[7; 1400]).build(), 1280).is_none(), "no fragment header");
    assert_eq!(cut(raw6(&[7; 1400]).fragment6(0, false, 1).build(), 1280).unwrap().len(), 2);
    assert!(cut(raw6(&[7; 1400]).fragment6(0, false, 1).build(), 55).is_none(), "no room");
    assert!(cut(raw6(&[7; 16]).fragment6(65_528, false, 1).build(), 1280).is_none(), "too long");
    let overrunning = packet.clone().ip_options(&[7, 9, 1, 1]);
    assert!(cut(overrunning.build(), 576).is_none(), "an option longer than the header");
    for endless in [[7, 0, 0, 0], [0x87, 1, 0, 0]] {
        assert!(cut(packet.clone().ip_options(&endless).build(), 576).is_some());
    }
}

#[test]
fn no_room_is_told() {
    let packet = raw(&[7; 1000]).build();
    let cut = Cut::new(packet.bytes(), L3, 576).unwrap();
    let mut small = empty(100);
    assert_eq!(cut.write(&packet, 0, &mut small), Err(Verdict::NoRoom));
    assert_eq!(small.total_len(), 0);
    let other = raw(&[7; 100]).build();
    assert_eq!(cut.write(&other, 0, &mut empty(2048)), Err(Verdict::Internal));
}
