//! What goes there and back is what it was, and every checksum is right.

use std::process::Command;

use proptest::prelude::*;
use testkit::PcapWriter;
use testkit::decoded::L4;

use super::errors::{error_to_four, error_to_six, sent4, sent6};
use super::*;

/// TCP, UDP or echo of any content, without options that a translation changes.
fn transport(kind: u8, packet: PacketBuilder, l4_ports: (u16, u16), six: bool) -> PacketBuilder {
    let (sport, dport) = l4_ports;
    match (kind, six) {
        (0, _) => packet.tcp(sport, dport).timestamps(1, 2),
        (1, _) => packet.udp(sport, dport),
        (2, true) => packet.echo_request6(sport, 7),
        (_, true) => packet.echo_reply6(sport, 7),
        (2, false) => packet.echo_request(sport, 7),
        (_, false) => packet.echo_reply(sport, 7),
    }
}

/// There and back: the tuple of the other family in between is `through`.
fn there_and_back6(buf: &mut Buf, through: &FlowKey) {
    let parsed = parsed6(buf);
    let from = parsed.key;
    let delta = six_to_four::l4_delta(&from, through);
    let there = six_to_four::translate(buf, layout(&parsed), through, delta, IDENT, PLAIN).unwrap();
    let delta = four_to_six::l4_delta(through, &from);
    four_to_six::translate(buf, there.layout, &from, delta, PLAIN).unwrap();
}

fn there_and_back4(buf: &mut Buf, through: &FlowKey6) {
    let parsed = parsed4(buf);
    let from = parsed.key;
    let delta = four_to_six::l4_delta(&from, through);
    let there = four_to_six::translate(buf, layout(&parsed), through, delta, PLAIN).unwrap();
    let delta = six_to_four::l4_delta(through, &from);
    six_to_four::translate(buf, there.layout, &from, delta, IDENT, PLAIN).unwrap();
}

proptest! {
    #[test]
    fn six_to_four_to_six_is_the_identity(
        kind in 0u8..4, src: u32, dst: u32, l4_ports: [u16; 4],
        payload in proptest::collection::vec(any::<u8>(), 0..300), hop_limit in 3u8.., tos: u8,
    ) {
        let [sport, dport, new_sport, new_dport] = l4_ports.map(|l4_port| l4_port.max(1));
        let packet = |hop_limit| {
            transport(kind, six().ttl(hop_limit).tos(tos), (sport, dport), true).payload(&payload)
        };
        let mut buf = packet(hop_limit).build();
        let through = FlowKey { src, dst, sport: new_sport, dport: new_dport, zone: 0, proto: 0 };
        there_and_back6(&mut buf, &through);
        prop_assert_eq!(buf.frame(), packet(hop_limit - 2).frame());
    }

    #[test]
    fn four_to_six_to_four_is_the_identity(
        kind in 0u8..4, src: u128, dst: u128, l4_ports: [u16; 4],
        payload in proptest::collection::vec(any::<u8>(), 0..300), ttl in 3u8.., tos: u8,
    ) {
        let [sport, dport, new_sport, new_dport] = l4_ports.map(|l4_port| l4_port.max(1));
        let packet = |ttl| {
            let ip = four().ttl(ttl).tos(tos).ident(IDENT);
            transport(kind, ip, (sport, dport), false).payload(&payload)
        };
        let mut buf = packet(ttl).build();
        let through = FlowKey6 { src, dst, sport: new_sport, dport: new_dport, zone: 0, proto: 0 };
        there_and_back4(&mut buf, &through);
        prop_assert_eq!(buf.frame(), packet(ttl - 2).frame());
    }

    /// Fragments keep what makes them one packet: both ways, first and later ones.
    #[test]
    fn fragments_come_back_as_they_were(ident: u16, offset in 0u16..1000, more: bool, units in 2usize..40) {
        let (offset, more) = (offset * 8, more || offset == 0);
        let packet = |ttl| {
            let ip = four().ttl(ttl).ident(ident).fragment(offset, more);
            let part = match offset {
                0 => ip.udp(8080, 1025).udp_len(9000),
                _ => ip.protocol(17),
            };
            part.payload_len(units * 8)
        };
        let mut buf = packet(9).build();
        there_and_back4(&mut buf, &keys(17).0.reversed());
        prop_assert_eq!(buf.frame(), packet(7).frame());
    }

    #[test]
    fn no_packet_makes_a_translation_panic(
        mut frame in proptest::collection::vec(any::<u8>(), 100..400),
        offsets: [u16; 5], v6: bool, icmp_type: u8, edits: [u8; 8],
    ) {
        frame[0] = if v6 { 0x60 } else { 0x45 };
        let base = if v6 { error_of(&sent6(), true) } else { error_of(&sent4(), false) };
        let mut edited = base.clone();
        for (at, byte) in edits.iter().enumerate() {
            let at = 14 + (usize::from(offsets[at % 5]) + at * 13) % (edited.len() - 14);
            edited[at] = *byte;
        }
        edited[if v6 { 54 } else { 34 }] = icmp_type;
        for bytes in [frame, edited] {
            let [l3, l4, inner_l3, inner_l4, _] = offsets.map(|offset| usize::from(offset) % bytes.len());
            let mut order = [l3, l4, inner_l3, inner_l4];
            order.sort_unstable();
            let [l3, l4, inner_l3, inner_l4] = order;
            let ip_len = bytes.len() - l3;
            for outer in [Layout { l3, l4, ip_len }, Layout { l3: 14, l4: if v6 { 54 } else { 34 }, ip_len: bytes.len() - 14 }] {
                let (inner_l3, inner_l4) = if outer.l3 == 14 { (outer.l4 + 8, outer.l4 + if v6 { 48 } else { 28 }) } else { (inner_l3, inner_l4) };
                let error = ErrorLayout { outer, inner_l3, inner_l4 };
                let (six, four) = keys(6);
                let _ = six_to_four::translate(&mut Buf::new(&bytes), outer, &four, 0, 0, PLAIN);
                let _ = four_to_six::translate(&mut Buf::new(&bytes), outer, &six, 0, PLAIN);
                let _ = six_to_four::translate_error(&mut Buf::new(&bytes), error, (1, 2), &four, MTUS, PLAIN);
                let _ = four_to_six::translate_error(&mut Buf::new(&bytes), error, (1, 2), &six, MTUS, PLAIN);
            }
        }
    }
}

fn error_of(inner: &PacketBuilder, v6: bool) -> Vec<u8> {
    if v6 {
        six().icmp6(1, 0, 0).quote(inner).frame()
    } else {
        four().icmp(3, 1, 0).quote(inner).frame()
    }
}

/// Wireshark's own code, which knows nothing of ours, finds every checksum right: IP, TCP, UDP, ICMP and
/// those of packets that are quoted whole.
#[test]
fn tshark_finds_every_checksum_right() {
    let mut frames = Vec::new();
    for payload_len in [0, 1, 2, 33, 1200] {
        for kind in 0..4 {
            let packet = transport(kind, six(), (40_000, 80), true).payload_len(payload_len);
            frames.push(to_four(&packet, PLAIN).unwrap().0);
            let packet = transport(kind, four(), (8080, 1025), false).payload_len(payload_len);
            frames.push(to_six(&packet, PLAIN).unwrap().0);
        }
        frames.push(
            to_six(&four().udp(8080, 1025).no_checksum().payload_len(payload_len), PLAIN)
                .unwrap()
                .0,
        );
        for code in [0, 3, 4, 13] {
            frames.push(
                error_to_six(
                    3,
                    code,
                    1400,
                    &sent4().payload_len(payload_len.min(1000)).ip_packet(),
                )
                .unwrap(),
            );
        }
        for (icmp_type, code) in [(1, 0), (1, 4), (2, 0), (3, 0)] {
            let inner = sent6().payload_len(payload_len.min(1000)).ip_packet();
            frames.push(error_to_four(icmp_type, code, 1400, &inner).unwrap());
        }
    }
    let folder = std::env::temp_dir().join(format!("dpnat-nat64-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("translated.pcap");
    let mut pcap = PcapWriter::create(&path).unwrap();
    for frame in &frames {
        pcap.write(Now::default(), frame).unwrap();
    }
    pcap.finish().unwrap();
    let fields = ["ip", "tcp", "udp", "icmp", "icmpv6"];
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&path).args(["-T", "fields"]);
    for field in fields {
        tshark.args(["-e", &format!("{field}.checksum.status")]);
    }
    for protocol in ["ip", "tcp", "udp"] {
        tshark.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
    }
    let said = tshark.output();
    std::fs::remove_dir_all(&folder).unwrap();
    let said = match said {
        Ok(said) => said,
        Err(error) => return eprintln!("SKIPPED: no tshark: {error}"),
    };
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = String::from_utf8(said.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), frames.len());
    let mut good = 0;
    for (line, frame) in lines.iter().zip(&frames) {
        // 0 is wrong, 1 right, 2 not looked at: of what is quoted in part.
        assert!(!line.contains('0'), "{line}: {}", Decoded::of(frame).unwrap());
        good += line.matches('1').count();
    }
    assert!(good >= 2 * frames.len(), "only {good} checksums in {} frames", frames.len());
}

/// What a decoder says of L4 is used nowhere else.
#[test]
fn other_protocols_have_no_transport_to_translate() {
    assert!(matches!(Decoded::check(&six().frame()).l4(), L4::Other));
    let mut buf = six().build();
    let parsed = buf.parsed6();
    assert!(buf.pull(parsed.ip_end()));
    let translated = six_to_four::translate(&mut buf, layout(&parsed), &keys(6).1, 0, 0, PLAIN);
    assert_eq!(translated, Err(Verdict::Untranslatable));
    assert_eq!(buf, six().build(), "unchanged");
}
