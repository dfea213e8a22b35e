//! What a client may make a server of either family believe of who it is: nothing; and packets that go alone.

use balance::ClientAddress;
use testkit::Decoded;

use crate::bed::Plan;
use crate::wide::{KINDS, SIX, WideConn, at, ends, inward, outward};

#[test]
fn one_packet_alone_opens_a_conn_between_any_families() {
    for kind in KINDS {
        let mut bed = kind.setup().dns(|dns| dns.spec.one_packet = true).build();
        for _ in 0..2 {
            let question = kind.by_client(&bed).udp(40_000, 53).payload(b"?");
            let sent = inward(&mut bed, question);
            let (lip, rs) = ends(&sent);
            assert_eq!(lip.ip().to_string(), kind.lip(), "{kind:?}");
            let answer = kind.by_server(&bed, &rs.ip().to_string()).udp(53, lip.port());
            let sent = outward(&mut bed, answer.payload(b"!"));
            assert_eq!(ends(&sent), (at(kind.vip(), 53), at(kind.client(), 40_000)), "{kind:?}");
        }
        bed.expect("received+4 sent+4 conns+2 leases+2 conn.opened+2");
    }
}

/// Servers believe a LIP, whatever the service: what comes by it is ours in every segment.
#[test]
fn a_clients_own_option_does_not_reach_a_server_that_is_shown_none() {
    for kind in KINDS {
        let hides = |shop: &mut Plan| shop.spec.client_address = ClientAddress::None;
        let mut bed = kind.setup().shop(hides).build();
        let mut conn = WideConn::syn(&mut bed, kind, 40_000);
        conn.syn_ack(&mut bed, 1460);
        for _ in 0..2 {
            let ack = conn.by_client(&bed).toa("6.6.6.6", 666);
            assert_eq!(conn.to_server(&mut bed, ack).tcp().options, [1; 8], "{kind:?}");
        }
        conn.server_sends(&mut bed, 10);
        let data = conn.by_client(&bed).toa("6.6.6.6", 666).payload_len(9);
        assert_eq!(conn.to_server(&mut bed, data).tcp().options, [1; 8], "{kind:?}");
    }
}

/// Where both sides have IPv6; into the other family no option goes.
#[test]
fn a_clients_own_option_of_datagrams_does_not_reach_a_server() {
    const FORGED: [u8; 20] =
        [0x1e, 18, 0, 9, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6];
    for (shows, one_packet) in [(false, false), (false, true), (true, false)] {
        let plan = |dns: &mut Plan| {
            dns.spec.one_packet = one_packet;
            dns.spec.client_address =
                if shows { ClientAddress::Option } else { ClientAddress::None };
        };
        let mut bed = SIX.setup().dns(plan).build();
        let forged = SIX.by_client(&bed).options_header(60, &FORGED).udp(40_000, 53);
        bed.receive(bed.wan, forged.payload(b"?"));
        let sent = bed.take(bed.lan).remove(0);
        Decoded::check(sent.frame());
        assert_eq!(sent.frame()[54..58], [17, 2, 1, 18]);
        assert_eq!(sent.frame()[58..78], [0; 20]);
    }
}
