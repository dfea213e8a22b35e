//! Headers of the PROXY protocol that clients themselves send: replaced, or passed on where they are trusted.

use nat::proxy::{Header, Version};
use types::Proto;

use crate::proxy::{ALL, FOUR, Talk, data, setup, trusting};
use crate::wide::CLIENT_ISN;

/// A header that the client claims: version 1, of an odd length, and version 2 with a TLV.
pub fn claimed() -> [Vec<u8>; 2] {
    let address = |text: &str| (text.parse().unwrap(), 6_666);
    let of = |version| Header::new(version, Proto::Tcp, address("6.6.6.6"), address("9.9.9.99"));
    let line = of(Version::V1).as_bytes().to_vec();
    assert_eq!(line.len() % 2, 1);
    let mut binary = of(Version::V2).as_bytes().to_vec();
    binary[15] += 8;
    binary.extend(b"\x02\0\x05shops");
    [line, binary]
}

#[test]
fn a_clients_own_is_replaced() {
    for (kind, theirs) in ALL.into_iter().flat_map(|kind| claimed().map(|theirs| (kind, theirs))) {
        let mut talk = Talk::open(kind);
        let len = theirs.len() as u32;
        let request = talk.by_client().psh().payload([&theirs[..], b"GET"].concat());
        let sent = talk.client(request.clone());
        assert_eq!(data(&sent), [(talk.end(), &b"GET"[..])]);
        talk.bed.expect("received+1 sent+1 proxy.replaced+1");
        // What was taken out has arrived where it goes.
        let (acked, _) = talk.server(talk.by_server(talk.start()));
        assert_eq!(acked.tcp().ack, CLIENT_ISN + 1 + len);
        assert_eq!(data(&talk.client(request)), [(talk.end(), &b"GET"[..])], "sent again");
        // Cut within, as a stack may send it again.
        let rest = talk.by_client().seq(CLIENT_ISN + 1 + 5).psh();
        let rest = rest.payload([&theirs[5..], b"GET"].concat());
        assert_eq!(data(&talk.client(rest)), [(talk.end(), &b"GET"[..])]);
        let more = talk.by_client().seq(CLIENT_ISN + 1 + len + 3).psh().payload(b"more");
        assert_eq!(data(&talk.client(more)), [(talk.end().wrapping_add(3), &b"more"[..])]);
        let (acked, _) = talk.server(talk.by_server(talk.end().wrapping_add(7)));
        assert_eq!(acked.tcp().ack, CLIENT_ISN + 1 + len + 7);
    }
}

#[test]
fn one_that_comes_alone_is_acknowledged_by_the_server() {
    for (theirs, late) in
        claimed().into_iter().flat_map(|theirs| [(theirs.clone(), false), (theirs, true)])
    {
        let mut talk = Talk::open(FOUR);
        let len = theirs.len() as u32;
        if late {
            talk.server(talk.by_server(talk.end()));
            talk.while_ms(9_000);
        }
        // An empty segment with a number before those that are expected asks for an ACK.
        let sent = talk.client(talk.by_client().psh().payload(&theirs));
        assert_eq!(data(&sent), [(talk.end().wrapping_sub(1), &[][..])]);
        let (acked, _) = talk.server(talk.by_server(talk.end()));
        assert_eq!(acked.tcp().ack, CLIENT_ISN + 1 + len);
        let fin = talk.by_client().seq(CLIENT_ISN + 1 + len).fin();
        assert_eq!(data(&talk.client(fin)), [(talk.end(), &[][..])]);
        let (acked, _) = talk.server(talk.by_server(talk.end().wrapping_add(1)));
        assert_eq!(acked.tcp().ack, CLIENT_ISN + 2 + len);
    }
}

#[test]
fn what_only_looks_like_one_is_data() {
    for payload in [
        &b"PROXY TCP4 1.2.3.4\r\n"[..],
        b"PROXY TCP4 1.2.3.4 5.6",
        b"PRO",
        b"\r\n\r\n\0\r\nQUIT\n!",
    ] {
        let mut talk = Talk::open(FOUR);
        let sent = talk.client(talk.by_client().psh().payload(payload));
        assert_eq!(data(&sent), [(talk.end(), payload)]);
    }
    // Only the first bytes can be one.
    let mut talk = Talk::open(FOUR);
    talk.client(talk.by_client().psh().payload(b"x"));
    let [line, _] = claimed();
    let later = talk.by_client().seq(CLIENT_ISN + 2).psh().payload(&line);
    assert_eq!(data(&talk.client(later)), [(talk.end().wrapping_add(1), &line[..])]);
}

#[test]
fn a_trusted_one_is_passed_on() {
    for (kind, theirs) in ALL.into_iter().flat_map(|kind| claimed().map(|theirs| (kind, theirs))) {
        let mut talk = Talk::with(setup(kind, trusting), kind);
        assert_eq!(data(&talk.client(talk.by_client())), [(talk.start(), &[][..])]);
        talk.bed.settled();
        let whole = [&theirs[..], b"GET"].concat();
        let sent = talk.client(talk.by_client().psh().payload(&whole));
        assert_eq!(data(&sent), [(talk.start(), &whole[..])]);
        talk.bed.expect("received+1 sent+1 proxy.passed+1");
        let (acked, _) = talk.server(talk.by_server(talk.start().wrapping_add(4)));
        assert_eq!(acked.tcp().ack, CLIENT_ISN + 5);
        assert!(talk.while_ms(5_000).is_empty());
    }
}

#[test]
fn who_is_trusted_and_sends_none_gets_one() {
    let mut talk = Talk::with(setup(FOUR, trusting), FOUR);
    let sent = talk.client(talk.by_client().psh().payload(b"GET"));
    assert_eq!(data(&sent), [(talk.start(), &talk.header[..]), (talk.end(), b"GET")]);

    // What comes before the first bytes waits for them, that is, is sent again.
    let mut talk = Talk::with(setup(FOUR, trusting), FOUR);
    talk.client(talk.by_client());
    talk.bed.settled();
    let second = talk.by_client().seq(CLIENT_ISN + 4).psh().payload(b"more");
    assert!(talk.client(second).is_empty());
    talk.bed.expect("received+1 drop.bad-state+1");
    let sent = talk.client(talk.by_client().fin());
    assert_eq!(data(&sent), [(talk.start(), &talk.header[..]), (talk.end(), &[])]);

    // Who says nothing is waited for, but not for ever.
    let mut talk = Talk::with(setup(FOUR, trusting), FOUR);
    talk.client(talk.by_client());
    let (banner, _) = talk.server(talk.by_server(talk.start()).window(9).psh().payload(b"220"));
    assert_eq!((banner.tcp().ack, banner.tcp().window), (CLIENT_ISN + 1, 9));
    let sent = talk.while_ms(3_100);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, 3_000);
    talk.is_header(&sent[0].1);
    // What it sends as its own from then on is replaced.
    let [line, _] = claimed();
    let sent = talk.client(talk.by_client().psh().payload([&line[..], b"GET"].concat()));
    assert_eq!(data(&sent), [(talk.end(), &b"GET"[..])]);
}

/// The byte of a keepalive is not the first one, and is not put on the header's last one.
#[test]
fn a_probe_is_not_the_clients_first_byte() {
    let [line, _] = claimed();
    let mut talk = Talk::open(FOUR);
    let probe = talk.by_client().seq(CLIENT_ISN).payload(b"?");
    assert_eq!(data(&talk.client(probe)), [(talk.end().wrapping_sub(1), &[][..])]);
    let sent = talk.client(talk.by_client().psh().payload([&line[..], b"GET"].concat()));
    assert_eq!(data(&sent), [(talk.end(), &b"GET"[..])]);
}

/// A segment in fragments cannot be shortened: it comes again, as a whole if its sender is wise.
#[test]
fn one_in_fragments_does_not_pass() {
    let [line, _] = claimed();
    let mut talk = Talk::open(FOUR);
    // A fragment but the last ends at a multiple of eight bytes.
    let rest = vec![b'x'; (20 + line.len()).next_multiple_of(8) - 20 - line.len()];
    let whole = [&line[..], &rest].concat();
    let first = talk.by_client().psh().payload(&whole).ident(7).fragment(0, true);
    assert!(talk.client(first).is_empty());
    talk.bed.expect("received+1 drop.no-room+1");
    let sent = talk.client(talk.by_client().psh().payload(&whole));
    assert_eq!(data(&sent), [(talk.end(), &rest[..])]);
}

/// Without room for another header its ACK is as if it had never come, be it one with a FIN.
#[test]
fn without_room_it_comes_again() {
    use dataplane::worker::headers::{HEADERS_MAX, Owner, Phase};
    use flow::{ConnId, HeaderState};

    let mut talk = Talk::with(setup(FOUR, |_| ()), FOUR);
    let now = talk.bed.now();
    let owner = |n: usize| Owner { conn: ConnId(n as u32), wide: true };
    let headers = &mut talk.bed.workers[0].core.headers;
    for n in 0..HEADERS_MAX {
        assert!(headers.insert(owner(n), Phase::Sent(1), (28, HeaderState::default()), now));
    }
    assert!(talk.client(talk.by_client().fin()).is_empty());
    talk.bed.expect("received+1 drop.table-full+1");
    talk.bed.workers[0].core.headers.remove(owner(7));
    let sent = talk.client(talk.by_client().fin());
    assert_eq!(data(&sent), [(talk.start(), &talk.header[..]), (talk.end(), &[])]);
}
