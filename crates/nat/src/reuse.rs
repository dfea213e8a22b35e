//! When a LIP's port may serve the same real server again, without meeting its TIME-WAIT.
//!
//! A real server that closed first keeps the connection's addresses and ports in TIME-WAIT and takes
//! a new SYN on them only if its timestamp or its sequence number is newer (RFC 9293 §3.10.7.4,
//! RFC 7323 §5.2 and RFC 6191). Both come from clocks of ours, offset by a keyed hash (RFC 6528,
//! RFC 7323 §5.4): so the usual reuse is newer, and the unusual one is seen here, at the close.

use types::{Address, FlowKey, Now};

/// The node's secrets for sequence numbers and timestamps: kept over a restart, shared with a peer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secrets {
    /// For initial sequence numbers.
    pub isn: [u64; 2],
    /// For timestamps.
    pub timestamp: [u64; 2],
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

/// A LIP's port towards a real server's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<A = u32> {
    /// The LIP.
    pub lip: A,
    /// The port leased of it.
    pub lport: u16,
    /// The real server's address.
    pub rs: A,
    /// The real server's port.
    pub rport: u16,
}

impl Secrets {
    /// The initial sequence number towards the real server: RFC 6528 with a clock of 64 ns.
    #[inline]
    pub fn initial_sequence<A: Address>(&self, pair: Pair<A>, now: Now) -> u32 {
        let addresses = addresses(self.isn, pair.lip, pair.rs);
        let l4_ports = u64::from(pair.lport) << 16 | u64::from(pair.rport);
        keyed(self.isn, addresses, l4_ports).wrapping_add(now.isn)
    }

    /// The first timestamp towards the real server: a clock of 1 ms, offset for each LIP and server.
    #[inline]
    pub fn initial_timestamp<A: Address>(&self, lip: A, rs: A, now: Now) -> u32 {
        let addresses = addresses(self.timestamp, lip, rs);
        keyed(self.timestamp, addresses, 0).wrapping_add(now.tick_ms)
    }

    /// Whether a SYN sent within `within_ms` from now would at any time not be newer by its sequence
    /// number than `last_ack`, the last that the real server acknowledged.
    #[inline]
    pub fn sequence_is_stale<A: Address>(
        &self,
        pair: Pair<A>,
        last_ack: u32,
        now: Now,
        within_ms: u32,
    ) -> bool {
        let gone_on = u64::from(within_ms) * SEQUENCE_STEPS_A_MS;
        is_stale(self.initial_sequence(pair, now), last_ack, gone_on)
    }

    /// Whether a SYN sent within `within_ms` from now would at any time not be newer by its timestamp
    /// than `last_sent`.
    #[inline]
    pub fn timestamp_is_stale<A: Address>(
        &self,
        pair: Pair<A>,
        last_sent: u32,
        now: Now,
        within_ms: u32,
    ) -> bool {
        is_stale(self.initial_timestamp(pair.lip, pair.rs, now), last_sent, within_ms.into())
    }
}

/// Steps of 64 ns.
const SEQUENCE_STEPS_A_MS: u64 = 15_625;

/// Serial-number comparison (RFC 1982): `next` is not after `last`, or will not be any more when its
/// clock has gone on by so many steps.
#[inline]
fn is_stale(next: u32, last: u32, gone_on: u64) -> bool {
    let ahead = next.wrapping_sub(last) as i32;
    ahead <= 0 || ahead as u64 + gone_on > i32::MAX as u64
}

/// Both addresses in one number: as they are if they are IPv4 ones, whatever the conn's other side is, as a
/// LIP's port serves all kinds of conns; else by their keyed hash.
#[inline]
fn addresses<A: Address>(key: [u64; 2], lip: A, rs: A) -> u64 {
    let both = FlowKey { src: lip, dst: rs, sport: 0, dport: 0, zone: 0, proto: 0 };
    match A::narrow(&both) {
        Some(FlowKey { src, dst, .. }) => u64::from(src) << 32 | u64::from(dst),
        None => {
            let [lip, rs] = A::halves(&both, |a, b| keyed_wide(key, a, b));
            keyed_wide(key, lip, rs)
        }
    }
}

/// Two rounds of multiply and fold, keyed: an outsider who sees some results cannot tell others.
#[inline]
fn keyed(key: [u64; 2], a: u64, b: u64) -> u32 {
    let wide = keyed_wide(key, a, b);
    wide as u32 ^ (wide >> 32) as u32
}

#[inline]
fn keyed_wide(key: [u64; 2], a: u64, b: u64) -> u64 {
    let [k0, k1] = key;
    let fold = |x: u64, y: u64| {
        let wide = u128::from(x) * u128::from(y);
        wide as u64 ^ (wide >> 64) as u64
    };
    let first = fold(a ^ k0, b ^ k1 ^ 0x9e37_79b9_7f4a_7c15);
    fold(first ^ k1, k0 ^ 0xd1b5_4a32_d192_ed03)
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::map_v4;

    const SECRETS: Secrets = Secrets { isn: [11, 22], timestamp: [33, 44] };
    const PAIR: Pair = Pair { lip: 0xc612_000a, lport: 1025, rs: 0xc612_0079, rport: 80 };

    #[test]
    fn a_short_conn_may_be_followed_at_once() {
        let opened = Now::from_ms(1_000);
        let isn = SECRETS.initial_sequence(PAIR, opened);
        let closed = Now::from_ms(1_010);
        // 100 kB in 10 ms is less than the clock's 156 kB.
        assert!(!SECRETS.sequence_is_stale(PAIR, isn.wrapping_add(100_000), closed, 60_000));
        let tsval = SECRETS.initial_timestamp(PAIR.lip, PAIR.rs, opened).wrapping_add(9);
        assert!(!SECRETS.timestamp_is_stale(PAIR, tsval, closed, 60_000));
    }

    #[test]
    fn a_port_has_one_clock_whoever_the_client_is() {
        let Pair { lip, lport, rs, rport } = PAIR;
        let (lip, rs) = (map_v4(lip), map_v4(rs));
        let (mapped, now) = (Pair { lip, lport, rs, rport }, Now::from_ms(7));
        assert_eq!(SECRETS.initial_sequence(mapped, now), SECRETS.initial_sequence(PAIR, now));
        let timestamp = SECRETS.initial_timestamp(lip, rs, now);
        assert_eq!(timestamp, SECRETS.initial_timestamp(PAIR.lip, PAIR.rs, now));
    }

    #[test]
    fn a_fast_upload_outruns_the_clock() {
        let isn = SECRETS.initial_sequence(PAIR, Now::from_ms(1_000));
        let last_ack = isn.wrapping_add(1_000_000_000);
        assert!(SECRETS.sequence_is_stale(PAIR, last_ack, Now::from_ms(2_000), 0));
        assert!(!SECRETS.sequence_is_stale(PAIR, last_ack, Now::from_ms(1_000 + 64_001), 60_000));
    }

    #[test]
    fn a_long_idle_conn_is_overtaken_by_the_wrap() {
        let isn = SECRETS.initial_sequence(PAIR, Now::from_ms(0));
        // Half of the sequence space is 137 s of the clock.
        assert!(SECRETS.sequence_is_stale(PAIR, isn.wrapping_add(500), Now::from_ms(200_000), 0));
        // At 100 s it is still ahead, but would be overtaken while the real server remembers.
        let closed = Now::from_ms(100_000);
        assert!(!SECRETS.sequence_is_stale(PAIR, isn.wrapping_add(500), closed, 30_000));
        assert!(SECRETS.sequence_is_stale(PAIR, isn.wrapping_add(500), closed, 60_000));
    }

    #[test]
    fn microsecond_timestamps_outrun_ours() {
        let opened = Now::from_ms(5_000);
        let tsval = SECRETS.initial_timestamp(PAIR.lip, PAIR.rs, opened).wrapping_add(2_000_000);
        assert!(SECRETS.timestamp_is_stale(PAIR, tsval, Now::from_ms(7_000), 0));
    }

    #[test]
    fn numbers_depend_on_every_part() {
        let now = Now::from_ms(1);
        let base = SECRETS.initial_sequence(PAIR, now);
        for other in [
            Pair { lip: 1, ..PAIR },
            Pair { lport: 1, ..PAIR },
            Pair { rs: 1, ..PAIR },
            Pair { rport: 1, ..PAIR },
        ] {
            assert_ne!(SECRETS.initial_sequence(other, now), base, "{other:?}");
        }
        let wide = |at: u32| Pair { lip: 5_u128 << at, lport: 1, rs: 7_u128 << 64, rport: 80 };
        let numbers = [64, 65, 0].map(|at| SECRETS.initial_sequence(wide(at), now));
        assert!(numbers[0] != numbers[1] && numbers[1] != numbers[2]);
        let other = Secrets { isn: [12, 22], ..SECRETS };
        assert_ne!(other.initial_sequence(PAIR, now), base);
    }
}
