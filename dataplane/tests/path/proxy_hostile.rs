//! Clients that want their server to read something before the header of the PROXY protocol, and what gets in its way.

use dataplane::worker::headers::{HEADERS_MAX, Owner, Phase};
use flow::{ConnId, HeaderState};
use testkit::PacketBuilder;
use wire::tcp::RST;

use crate::proxy::{ALL, FOUR, Talk, data, setup, trusting};
use crate::proxy_theirs::claimed;
use crate::wide::{CLIENT_ISN, SERVER_ISN};

/// What a client says that claims another's address.
fn forged(talk: &Talk) -> PacketBuilder {
    let [line, _] = claimed();
    talk.by_client().psh().payload([&line[..], b"GET"].concat())
}

/// A server that is half open takes no RST with another number than the one that it expects.
#[test]
fn a_reset_that_the_server_does_not_take_opens_no_way_past() {
    for kind in ALL {
        let mut talk = Talk::new(kind);
        let old = talk.by_client().seq(CLIENT_ISN + 1 - 1_000).rst();
        assert_eq!(talk.client(old).len(), 1);
        talk.bed.settled();
        assert!(talk.client(forged(&talk)).is_empty(), "{kind:?}");
        assert!(talk.client(talk.by_client()).is_empty(), "{kind:?}");
        talk.bed.expect("received+2 drop.bad-state+2");

        // Likewise with the number that a server expects which has not got the header.
        let mut talk = Talk::open(kind);
        let before_header = CLIENT_ISN.wrapping_add(1).wrapping_sub(talk.len());
        let sent = talk.client(talk.by_client().seq(before_header).rst());
        assert_eq!(sent[0].tcp().seq, talk.start());
        assert!(talk.client(forged(&talk)).is_empty(), "{kind:?}");
        let in_its_place = forged(&talk).seq(before_header);
        assert!(talk.client(in_its_place).is_empty(), "{kind:?}");
        assert!(talk.bed.workers[0].core.headers.is_empty());
    }
}

/// With SYN cookies each SYN is answered by another number, and the server takes the ACK of an older one, too.
#[test]
fn the_ack_of_an_older_cookie_is_not_the_handshakes() {
    for kind in ALL {
        let mut talk = Talk::new(kind);
        let syn = kind.by_client(&talk.bed).tcp(talk.conn.client_port, 80).syn().seq(CLIENT_ISN);
        assert_eq!(talk.client(syn).len(), 1);
        let newer = SERVER_ISN.wrapping_add(70_000);
        talk.server(talk.conn.by_server(&talk.bed).seq(newer).syn());
        talk.bed.settled();
        assert!(talk.client(forged(&talk)).is_empty(), "{kind:?}");
        talk.bed.expect("received+1 drop.bad-state+1");
        // The newest is.
        let sent = talk.client(talk.by_client().ack(newer.wrapping_add(1)));
        assert_eq!(data(&sent), [(talk.start(), &[][..]), (talk.start(), &talk.header[..])]);
    }
}

/// While the server misses the header, what is sent with its numbers would be read in its place.
#[test]
fn what_comes_before_the_clients_first_byte_is_taken_out() {
    for kind in ALL {
        let mut talk = Talk::open(kind);
        let len = talk.len();
        let before = |n: u32| CLIENT_ISN.wrapping_add(1).wrapping_sub(n);
        // As long as the header, and longer.
        let all = talk.by_client().seq(before(len)).psh().payload(vec![b'x'; len as usize]);
        assert_eq!(data(&talk.client(all)), [(talk.end().wrapping_sub(1), &[][..])]);
        let more = vec![b'x'; len as usize + 9];
        let longer = talk.by_client().seq(before(len)).psh().payload(&more);
        assert!(talk.client(longer.clone()).is_empty());
        let far = talk.by_client().seq(before(1_000)).psh().payload(b"far");
        assert_eq!(talk.client(far)[0].payload(), b"");
        // What is left of it is what the client has sent there anyway.
        let sent = talk.client(talk.by_client().psh().payload(b"GET"));
        assert_eq!(data(&sent), [(talk.end(), &b"GET"[..])]);
        assert_eq!(data(&talk.client(longer)), [(talk.end(), &[b'x'; 9][..])]);
        let sent = talk.while_ms(200);
        talk.is_header(&sent[0].1);
    }
}

/// The client's first bytes are looked at before any that follow them.
#[test]
fn one_that_is_overtaken_is_replaced() {
    for (kind, theirs) in ALL.into_iter().flat_map(|kind| claimed().map(|theirs| (kind, theirs))) {
        let mut talk = Talk::open(kind);
        let len = theirs.len() as u32;
        let first = talk.by_client().psh().payload(&theirs);
        let second = talk.by_client().seq(CLIENT_ISN + 1 + len).psh().payload(b"hello");
        talk.bed.settled();
        assert!(talk.client(second.clone()).is_empty(), "{kind:?}");
        talk.bed.expect("received+1 drop.bad-state+1");
        assert_eq!(data(&talk.client(first)), [(talk.end().wrapping_sub(1), &[][..])]);
        assert_eq!(data(&talk.client(second)), [(talk.end(), &b"hello"[..])]);
    }
}

/// A FIN is not acknowledged before the header is: the server still expects the header.
#[test]
fn a_reset_behind_a_fin_has_the_number_of_the_header() {
    let mut talk = Talk::open(FOUR);
    talk.client(talk.by_client().fin());
    let sent = talk.client(talk.by_client().rst());
    let numbers: Vec<_> =
        sent.iter().map(|reset| (reset.tcp().flags & RST, reset.tcp().seq)).collect();
    assert_eq!(numbers, [(RST, talk.start()), (RST, talk.end())]);
}

/// SYN and SYN|ACK have the numbers that they had, whatever was put behind them.
#[test]
fn a_handshake_that_is_said_again_is_the_same() {
    for kind in ALL {
        let mut talk = Talk::open(kind);
        let syn = kind.by_client(&talk.bed).tcp(talk.conn.client_port, 80).syn().seq(CLIENT_ISN);
        let sent = talk.client(syn);
        assert_eq!(data(&sent), [(talk.start().wrapping_sub(1), &[][..])], "{kind:?}");
        let again = talk.by_server(talk.start()).seq(SERVER_ISN).syn().window(60_000);
        let (again, back) = talk.server(again);
        assert_eq!((again.tcp().ack, back.len()), (CLIENT_ISN + 1, 0), "{kind:?}");
        assert_eq!(again.tcp().window, 60_000 - talk.len() as u16, "{kind:?}");
    }
}

fn fill(talk: &mut Talk, phase: Phase) {
    let now = talk.bed.now();
    let headers = &mut talk.bed.workers[0].core.headers;
    for n in 0..HEADERS_MAX as u32 - headers.len() {
        let owner = Owner { conn: ConnId(n), wide: true };
        assert!(headers.insert(owner, phase, (28, HeaderState::default()), now));
    }
    assert!(headers.is_full());
}

/// Conns that say nothing, or whose server does not, keep no other from its header.
#[test]
fn who_waits_longest_makes_room() {
    let mut talk = Talk::with(setup(FOUR, trusting), FOUR);
    talk.client(talk.by_client());
    fill(&mut talk, Phase::Waiting);
    let sent = talk.while_ms(1);
    assert_eq!(sent.len(), 1, "it is waited for no longer");
    talk.is_header(&sent[0].1);

    let mut talk = Talk::open(FOUR);
    assert_eq!(talk.while_ms(1_400).len(), 3);
    fill(&mut talk, Phase::Sent(1));
    let sent = talk.while_ms(1);
    assert_eq!((sent.len(), sent[0].1.tcp().flags), (1, RST), "it is given up");
    assert!(!talk.bed.workers[0].core.headers.is_full());
    assert_eq!(talk.bed.one(talk.bed.wan).tcp().flags, RST);
}

/// What is kept of a conn that is no more goes when it is due, and keeps nothing else waiting.
#[test]
fn a_header_without_its_conn_goes() {
    let mut talk = Talk::open(FOUR);
    fill(&mut talk, Phase::Sent(8));
    assert_eq!(talk.while_ms(30_000).len(), 7);
    assert_eq!(talk.bed.workers[0].core.headers.len(), 1);
}
