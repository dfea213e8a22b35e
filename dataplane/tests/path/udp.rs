//! UDP through FullNAT.

use testkit::ip;

use crate::bed::{CLIENT, LIP, RS1, Setup, Testbed, VIP};

#[test]
fn a_question_and_its_answers() {
    for one_arm in [false, true] {
        let mut bed = Setup { one_arm, ..Setup::default() }.build();
        let question = bed.by_client().udp(5000, 53).payload(b"who?");
        let sent = bed.through(bed.wan, question.clone(), bed.lan);
        bed.expect("received+1 sent+1 conns+1 leases+1 conn.opened+1");
        let key = sent.key();
        assert_eq!((key.src, key.dst, key.dport), (ip(LIP), ip(RS1), 53));
        assert_eq!(sent.payload(), b"who?");

        for payload in [&b"me"[..], b"", &[7; 1472]] {
            let answer = bed.by_server(RS1).udp(53, key.sport).payload(payload);
            let sent = bed.through(bed.lan, answer, bed.wan);
            let key = sent.key();
            assert_eq!((key.src, key.sport, key.dst, key.dport), (ip(VIP), 53, ip(CLIENT), 5000));
            assert_eq!(sent.payload(), payload);
        }
        bed.expect("received+3 sent+3");

        let again = bed.through(bed.wan, question, bed.lan);
        assert_eq!(again.key(), key, "the same flow");
        bed.expect("received+1 sent+1");
        // Answered, it may be idle for longer.
        bed.after_ms(200_000);
        bed.expect("");
    }
}

/// RFC 768: 0 is no checksum, and stays none.
#[test]
fn no_checksum_stays_none() {
    let mut bed = Testbed::usual();
    let question = bed.by_client().udp(5000, 53).payload(b"?").no_checksum();
    let sent = bed.through(bed.wan, question, bed.lan);
    assert_eq!(sent.udp().checksum, 0);
    let answer = bed.by_server(RS1).udp(53, sent.key().sport).no_checksum();
    assert_eq!(bed.through(bed.lan, answer, bed.wan).udp().checksum, 0);
}

/// A right checksum never becomes the 0 that says none, whatever the addresses add up to.
#[test]
fn a_checksum_never_becomes_none() {
    let mut bed = Testbed::usual();
    for word in 0..=u16::MAX {
        bed.arrive(bed.wan, bed.by_client().udp(5000, 53).payload(word.to_be_bytes()));
        if word % 64 == 63 {
            bed.turn();
            for sent in bed.sent(bed.lan) {
                assert_ne!(sent.udp().checksum, 0);
            }
        }
    }
}

#[test]
fn many_clients_share_a_lip() {
    let mut bed = Testbed::usual();
    let mut seen = std::collections::HashSet::new();
    for client_port in 1000..2000 {
        let question = bed.by_client().udp(client_port, 53).payload(b"?");
        let key = bed.through(bed.wan, question, bed.lan).key();
        assert!(seen.insert(key), "{key} twice");
    }
    bed.expect("received+1000 sent+1000 conns+1000 leases+1000 conn.opened+1000");
}
