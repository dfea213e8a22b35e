//! Fragments of our own making: etherparse reads them and puts them together again.

use etherparse::defrag::IpDefragBuf;
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv4HeaderSlice};
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
}

fn packet_head() -> [u8; L3] {
    raw(&[]).frame()[..L3].try_into().unwrap()
}

#[test]
fn what_may_not_be_cut_is_not() {
    let packet = raw(&[7; 1000]);
    assert_eq!(cut(packet.build(), 576).unwrap().len(), 2);
    assert!(cut(packet.clone().df().build(), 576).is_none(), "don't fragment");
    assert!(cut(packet.build(), 27).is_none(), "no room for eight bytes");
    assert_eq!(cut(packet.build(), 28).unwrap().len(), 125);
    assert!(cut(packet.clone().fragment(65_528, false).build(), 576).is_none(), "too long");
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
