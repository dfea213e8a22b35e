//! When a LIP's port rests before it serves the same real server again (DESIGN 4.5): only where the
//! server may be in TIME_WAIT and would not take our next SYN for newer.

use types::Now;

use crate::bed::{SECRETS, Setup, Testbed};
use crate::conn::Conn;

const RESTS: &str = "conns-1 leases-1 conn.closed+1 resting+1 lease.rested+1";
const FREE: &str = "conns-1 leases-1 conn.closed+1";

/// Closes the conn, the server first: it is the one in TIME_WAIT.
#[track_caller]
fn end(bed: &mut Testbed, conn: &mut Conn, expected: &str) {
    conn.server_fin(bed);
    conn.client_fin(bed);
    conn.server_acks(bed);
    bed.settled();
    bed.after_ms(5_000);
    bed.expect(expected);
}

/// Whether a server in TIME_WAIT takes a SYN of a new conn at `now` by its sequence number alone.
fn is_newer(conn: &Conn, now: Now) -> bool {
    let (lip, lport) = conn.lip;
    let (rs, rport) = conn.rs;
    let next = SECRETS.initial_sequence(nat::reuse::Pair { lip, lport, rs, rport }, now);
    let received = conn.client_next.wrapping_add(conn.offset);
    next.wrapping_sub(received) as i32 > 0
}

#[test]
fn a_short_conn_leaves_its_port_free() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::open(&mut bed, 40_000);
    conn.client_sends(&mut bed, 1_000);
    end(&mut bed, &mut conn, FREE);
    assert!(is_newer(&conn, bed.now()));
}

#[test]
fn a_gigabyte_in_seconds_outruns_the_clock() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::open(&mut bed, 40_000);
    bed.after_ms(10_000);
    conn.client_next = conn.client_next.wrapping_add(1 << 30);
    conn.server_acks(&mut bed);
    end(&mut bed, &mut conn, RESTS);
    assert!(!is_newer(&conn, bed.now()));

    // It is over after the server's TIME_WAIT.
    bed.after_ms(59_999);
    bed.expect("");
    bed.after_ms(1);
    bed.expect("resting-1");
}

#[test]
fn a_long_idle_conn_is_overtaken_by_the_wrap() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::open(&mut bed, 40_000);
    bed.after_ms(200_000);
    end(&mut bed, &mut conn, RESTS);
    assert!(!is_newer(&conn, bed.now()));
}

/// Newer when it closes is not enough: it has to stay so for as long as the server remembers.
#[test]
fn a_wrap_within_the_servers_time_wait_counts() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::open(&mut bed, 40_000);
    bed.after_ms(100_000);
    end(&mut bed, &mut conn, RESTS);
    let later = Now::from_ms(bed.clock.ms() + 50_000);
    assert!(is_newer(&conn, bed.now()) && !is_newer(&conn, later));
}

#[test]
fn microsecond_timestamps_outrun_ours() {
    for (ticks_a_ms, expected) in [(1, FREE), (1000, RESTS)] {
        let mut bed = Testbed::usual();
        let mut conn = Conn::syn_with(&mut bed, 40_000, |syn| syn.timestamps(5, 0));
        conn.syn_ack(&mut bed);
        conn.ack(&mut bed);
        bed.after_ms(2_000);
        conn.server_fin(&mut bed);
        let fin = conn.by_client(&bed).fin().timestamps(5 + 2_000 * ticks_a_ms, 1);
        conn.to_server(&mut bed, fin);
        conn.client_next += 1;
        conn.server_acks(&mut bed);
        bed.settled();
        bed.after_ms(5_000);
        bed.expect(expected);
    }
}

#[test]
fn after_a_reset_nobody_remembers() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::open(&mut bed, 40_000);
    conn.client_next = conn.client_next.wrapping_add(1 << 30);
    conn.server_acks(&mut bed);
    let reset = conn.by_client(&bed).rst();
    conn.to_server(&mut bed, reset);
    bed.settled();
    bed.after_ms(5_000);
    bed.expect(FREE);
}

#[test]
fn a_resting_port_is_not_leased() {
    let mut bed = Setup { l4_ports: 5000..=5000, ..Setup::default() }
        .shop(|shop| shop.servers.truncate(1))
        .build();
    let mut conn = Conn::open(&mut bed, 40_000);
    conn.client_next = conn.client_next.wrapping_add(1 << 30);
    conn.server_acks(&mut bed);
    end(&mut bed, &mut conn, RESTS);
    bed.receive(bed.wan, bed.by_client().tcp(40_001, 80).syn());
    bed.expect("received+1 drop.no-lease+1");
    bed.after_ms(60_000);
    bed.expect("resting-1");
    assert_eq!(Conn::syn(&mut bed, 40_001).lip.1, 5000);
    bed.expect("received+1 sent+1 conns+1 half-open+1 leases+1 conn.opened+1");
}

/// Whatever a conn did, the next one on its port is newer to the server, or the port rests.
#[test]
fn whatever_came_before_the_next_syn_is_newer() {
    for upload in [0u32, 1_000, 50_000_000, 400_000_000, 1 << 31] {
        for seconds in [0u64, 1, 30, 70, 100, 136, 140, 250, 280, 600] {
            let mut bed = Setup { l4_ports: 5000..=5000, ..Setup::default() }
                .shop(|shop| shop.servers.truncate(1))
                .build();
            let mut conn = Conn::open(&mut bed, 40_000);
            bed.after_ms(seconds * 1000);
            for _ in 0..4 {
                conn.client_next = conn.client_next.wrapping_add(upload / 4);
                conn.server_acks(&mut bed);
            }
            conn.server_fin(&mut bed);
            conn.client_fin(&mut bed);
            conn.server_acks(&mut bed);
            bed.after_ms(5_000);
            for at in [0, 15_000, 25_000] {
                bed.after_ms(at);
                bed.receive(bed.wan, bed.by_client().tcp(50_000, 80).syn());
                for sent in bed.sent(bed.lan) {
                    let received = conn.client_next.wrapping_add(conn.offset);
                    let ahead = sent.tcp().seq.wrapping_sub(received) as i32;
                    assert!(ahead > 0, "{upload} bytes in {seconds} s, {at} ms later: {ahead}");
                    let refused = bed.by_server(conn.rs.0).tcp(8080, 5000).rst();
                    bed.receive(bed.lan, refused.seq(0).ack(sent.tcp().seq.wrapping_add(1)));
                    bed.after_ms(5_000);
                    bed.sent(bed.wan);
                }
            }
        }
    }
}
