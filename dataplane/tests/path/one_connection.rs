//! One FullNAT TCP connection, from its SYN to the place in the table being free again.
//!
//! Read this first. A client behind the gateway talks to `203.0.113.10:80`; the packets that reach
//! the real server come from `198.18.0.10`, a LIP. After each step the ledger says what has changed
//! in the worker; what it does not name has stayed as it was: every counter, table and lease.

use testkit::ip;
use wire::tcp::{ACK, FIN, SYN};

use crate::bed::{CLIENT, GATEWAY, LIP, RS1, SECRETS, SHOP, Testbed, VIP, station};

#[test]
fn one_connection_from_syn_to_expiry() {
    let mut bed = Testbed::usual();
    let (wan, lan) = (bed.wan, bed.lan);

    // The client's SYN is for no flow that the table knows. `open` finds the service of the VIP, its
    // scheduler picks the first server, a port of the LIP is leased, and both flows are written.
    let syn = bed.by_client().ttl(60).tcp(40_000, 80).syn().seq(1_000);
    let to_server = bed.through(wan, syn.mss(1460).sack_permitted().timestamps(50, 0), lan);
    bed.expect("received+1 sent+1 conns+1 half-open+1 leases+1 conn.opened+1");
    let key = to_server.key();
    assert_eq!((key.src, key.dst, key.dport), (ip(LIP), ip(RS1), 8080));
    assert_eq!(to_server.ipv4().ttl, 59);
    assert_eq!(to_server.eth_dst, station(RS1));

    // The server sees sequence numbers and timestamps on a clock of ours, so that the port can
    // serve it again soon after the conn has ended. It does not see the client's address yet.
    let pair = nat::reuse::Pair { lip: key.src, lport: key.sport, rs: key.dst, rport: key.dport };
    let our_isn = SECRETS.initial_sequence(pair, bed.now());
    let our_ts = SECRETS.initial_timestamp(pair.lip, pair.rs, bed.now());
    let tcp = to_server.tcp();
    assert_eq!((tcp.seq, tcp.timestamps), (our_isn, Some((our_ts, 0))));
    assert_eq!((tcp.mss, tcp.sack_permitted, tcp.toa), (Some(1460), true, None));

    // The SYN|ACK comes to the leased port, finds the conn's other flow and goes back the same way.
    // The client is offered 8 bytes less than the server takes: room for the client's address.
    let lport = key.sport;
    let syn_ack = bed.by_server(RS1).tcp(8080, lport).syn().seq(77_000).ack(our_isn + 1);
    let to_client = bed.through(lan, syn_ack.mss(1460).timestamps(9_000, our_ts), wan);
    bed.expect("received+1 sent+1");
    let (key, tcp) = (to_client.key(), to_client.tcp());
    assert_eq!((key.src, key.sport, key.dst, key.dport), (ip(VIP), 80, ip(CLIENT), 40_000));
    assert_eq!((tcp.flags, tcp.seq, tcp.ack), (SYN | ACK, 77_000, 1_001));
    assert_eq!((tcp.mss, tcp.timestamps), (Some(1452), Some((9_000, 50))));
    assert_eq!(to_client.eth_dst, station(GATEWAY));

    // The client proves that it saw that: the conn is established. Its address goes to the server
    // as TCP option 254, with everything it sends until the server's first data is acknowledged.
    let ack = bed.by_client().tcp(40_000, 80).seq(1_001).ack(77_001).timestamps(51, 9_000);
    let to_server = bed.through(wan, ack, lan);
    bed.expect("received+1 sent+1 half-open-1 toa.inserted+1");
    let tcp = to_server.tcp();
    assert_eq!((tcp.seq, tcp.ack), (our_isn + 1, 77_001));
    assert_eq!((tcp.timestamps, tcp.toa), (Some((our_ts + 1, 9_000)), Some((ip(CLIENT), 40_000))));

    let request = bed.by_client().tcp(40_000, 80).seq(1_001).ack(77_001).psh();
    let to_server = bed.through(wan, request.timestamps(52, 9_000).payload(b"GET / HTTP/1.1"), lan);
    bed.expect("received+1 sent+1 toa.inserted+1");
    assert_eq!(to_server.tcp().toa, Some((ip(CLIENT), 40_000)));
    assert_eq!(to_server.payload(), b"GET / HTTP/1.1");

    let answer = bed.by_server(RS1).tcp(8080, lport).seq(77_001).ack(our_isn + 15).psh();
    let to_client = bed.through(lan, answer.timestamps(9_010, our_ts + 2).payload(b"200"), wan);
    bed.expect("received+1 sent+1");
    assert_eq!((to_client.tcp().seq, to_client.tcp().ack), (77_001, 1_015));
    assert_eq!(to_client.tcp().timestamps, Some((9_010, 52)));

    // From this ACK on there is no option any more, and a packet costs two cache lines.
    let ack = bed.by_client().tcp(40_000, 80).seq(1_015).ack(77_004).timestamps(60, 9_010);
    assert_eq!(bed.through(wan, ack, lan).tcp().toa, None);
    bed.expect("received+1 sent+1");

    // What the flows have counted is folded into service and server by the sweep.
    bed.after_ms(4_000);
    bed.expect("");
    let totals = bed.workers[0].core.cells.service_totals(SHOP).unwrap();
    assert_eq!((totals.active, totals.inactive, totals.opened), (1, 0, 1));
    assert_eq!((totals.traffic.forward_packets, totals.traffic.reverse_packets), (4, 2));

    // Each side closes its half; the last ACK ends the conn. The server has forgotten it at once,
    // as the client was the first to close.
    let fin = bed.by_client().tcp(40_000, 80).seq(1_015).ack(77_004).fin().timestamps(70, 9_010);
    let to_server = bed.through(wan, fin, lan);
    assert_eq!((to_server.tcp().flags, to_server.tcp().seq), (FIN | ACK, our_isn + 15));
    let fin = bed.by_server(RS1).tcp(8080, lport).seq(77_004).ack(our_isn + 16).fin();
    let to_client = bed.through(lan, fin.timestamps(9_020, our_ts + 20), wan);
    assert_eq!((to_client.tcp().flags, to_client.tcp().ack), (FIN | ACK, 1_016));
    let ack = bed.by_client().tcp(40_000, 80).seq(1_016).ack(77_005).timestamps(71, 9_020);
    bed.through(wan, ack, lan);
    bed.expect("received+3 sent+3");

    // For a few seconds the conn stays, for what is sent again. Then everything goes back: the
    // port is free at once, because the server would take a new SYN from it for newer.
    bed.after_ms(4_999);
    bed.expect("");
    bed.after_ms(1);
    bed.expect("conns-1 leases-1 conn.closed+1");
    bed.nothing_sent();
}
