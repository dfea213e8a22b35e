//! Persistence: which server a client's source prefix had, in tables of fixed size.

use std::net::IpAddr;

use types::{Address, Now, Slot};

use crate::hash::{Use, hash, reduce};
use crate::service::{Persistence, Remembered};

/// Clients in a set; of IPv4 one cache line.
const SET_LEN: usize = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Client<A> {
    prefix: A,
    /// [`Slot::NONE`]: nobody.
    server: Slot,
    /// When its last conn began or ended.
    last_ms: u32,
    /// Conns that it has; while there are any it does not expire.
    conns: u32,
}

impl<A> Client<A> {
    fn is_gone(&self, timeout_ms: u32, now: Now) -> bool {
        self.server.is_none() || (self.conns == 0 && now.since(self.last_ms) >= timeout_ms)
    }
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Set<A>([Client<A>; SET_LEN]);

const _: () = assert!(size_of::<Set<u32>>() == 64);

/// The clients that one worker remembers for one service.
#[derive(Debug, Default)]
pub(crate) struct Sticky {
    v4: Table<u32>,
    v6: Table<u128>,
    timeout_ms: u32,
}

impl Sticky {
    pub(crate) fn new(v4: Remembered, v6: Remembered) -> Self {
        Self { v4: Table::new(v4), v6: Table::new(v6), timeout_ms: 0 }
    }

    /// Takes on what is configured; without persistence nothing is found or kept.
    pub(crate) fn configure(&mut self, persistence: Option<Persistence>) {
        self.timeout_ms = persistence.map_or(0, |persistence| persistence.timeout_ms);
    }

    /// Takes over the clients that it can hold as well.
    pub(crate) fn follow(&mut self, old: &mut Self) {
        self.v4.follow(&mut old.v4);
        self.v6.follow(&mut old.v6);
        self.timeout_ms = old.timeout_ms;
    }

    /// The server that a source is to come back to.
    #[inline]
    pub(crate) fn find(&self, source: IpAddr, now: Now) -> Option<Slot> {
        if self.timeout_ms == 0 {
            return None;
        }
        match source {
            IpAddr::V4(source) => self.v4.find(source.into(), self.timeout_ms, now),
            IpAddr::V6(source) => self.v6.find(source.into(), self.timeout_ms, now),
        }
    }

    /// A conn of a source began at a server.
    #[inline]
    pub(crate) fn opened(&mut self, source: IpAddr, server: Slot, now: Now) {
        let timeout_ms = self.timeout_ms;
        if timeout_ms == 0 {
            return;
        }
        match source {
            IpAddr::V4(source) => self.v4.opened(source.into(), server, timeout_ms, now),
            IpAddr::V6(source) => self.v6.opened(source.into(), server, timeout_ms, now),
        }
    }

    /// A conn of a source ended at a server.
    #[inline]
    pub(crate) fn closed(&mut self, source: IpAddr, server: Slot, now: Now) {
        match source {
            IpAddr::V4(source) => self.v4.closed(source.into(), server, now),
            IpAddr::V6(source) => self.v6.closed(source.into(), server, now),
        }
    }

    /// Forgets who expired in the next `budget` sets, so that none outlives the tick's wrap.
    pub(crate) fn sweep(&mut self, budget: usize, now: Now) {
        self.v4.sweep(budget, self.timeout_ms, now);
        self.v6.sweep(budget, self.timeout_ms, now);
    }

    /// Clients remembered; walks the tables.
    pub(crate) fn len(&self, now: Now) -> usize {
        self.v4.len(self.timeout_ms, now) + self.v6.len(self.timeout_ms, now)
    }
}

/// The clients of one family.
#[derive(Debug, Default)]
struct Table<A> {
    sets: Box<[Set<A>]>,
    prefix_len: u8,
    cursor: usize,
}

impl<A: Address> Table<A> {
    fn new(Remembered { prefix_len, capacity }: Remembered) -> Self {
        let sets = vec![Set::default(); (capacity as usize).div_ceil(SET_LEN)].into();
        Self { sets, prefix_len, cursor: 0 }
    }

    fn follow(&mut self, old: &mut Self) {
        if self.sets.len() == old.sets.len() && self.prefix_len == old.prefix_len {
            std::mem::swap(self, old);
        }
    }

    #[inline]
    fn set(&self, prefix: A) -> usize {
        let bits = prefix.to_bits();
        let mut place = hash(bits as u64, Use::Sticky);
        if A::BITS > 64 {
            place = hash(place ^ (bits >> 64) as u64, Use::Sticky);
        }
        reduce(place, self.sets.len())
    }

    #[inline]
    fn find(&self, source: A, timeout_ms: u32, now: Now) -> Option<Slot> {
        let prefix = source.prefix(self.prefix_len);
        let Set(clients) = self.sets.get(self.set(prefix))?;
        let client = clients
            .iter()
            .find(|client| client.prefix == prefix && !client.is_gone(timeout_ms, now))?;
        Some(client.server)
    }

    #[inline]
    fn opened(&mut self, source: A, server: Slot, timeout_ms: u32, now: Now) {
        let prefix = source.prefix(self.prefix_len);
        let set = self.set(prefix);
        let Some(Set(clients)) = self.sets.get_mut(set) else { return };
        // Its own entry, else one that is free, else the one without conns, else the longest idle.
        let Some(client) = clients.iter_mut().min_by_key(|client| {
            let mine = client.prefix == prefix && !client.server.is_none();
            let idle_ms = now.since(client.last_ms);
            (!mine, !client.is_gone(timeout_ms, now), client.conns > 0, u32::MAX - idle_ms)
        }) else {
            return;
        };
        let stays = client.prefix == prefix && client.server == server;
        let conns = if stays { client.conns + 1 } else { 1 };
        *client = Client { prefix, server, last_ms: now.tick_ms, conns };
    }

    #[inline]
    fn closed(&mut self, source: A, server: Slot, now: Now) {
        let prefix = source.prefix(self.prefix_len);
        let set = self.set(prefix);
        let Some(Set(clients)) = self.sets.get_mut(set) else { return };
        let client =
            clients.iter_mut().find(|client| client.prefix == prefix && client.server == server);
        if let Some(client) = client {
            client.conns = client.conns.saturating_sub(1);
            client.last_ms = now.tick_ms;
        }
    }

    fn sweep(&mut self, budget: usize, timeout_ms: u32, now: Now) {
        for _ in 0..budget.min(self.sets.len()) {
            if let Some(Set(clients)) = self.sets.get_mut(self.cursor) {
                for client in clients {
                    if client.is_gone(timeout_ms, now) {
                        *client = Client::default();
                    }
                }
            }
            self.cursor = if self.cursor + 1 >= self.sets.len() { 0 } else { self.cursor + 1 };
        }
    }

    fn len(&self, timeout_ms: u32, now: Now) -> usize {
        let clients = self.sets.iter().flat_map(|Set(clients)| clients);
        clients.filter(|client| !client.is_gone(timeout_ms, now)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(clients: u32, prefix_len: u8) -> Sticky {
        let v4 = Remembered { prefix_len, capacity: clients };
        let v6 = Remembered { prefix_len: 64, capacity: clients };
        let mut sticky = Sticky::new(v4, v6);
        sticky.configure(Some(Persistence { timeout_ms: 1000, v4, v6 }));
        sticky
    }

    #[test]
    fn a_prefix_comes_back_until_it_expires() {
        let mut sticky = table(64, 24);
        let server = Slot::new(7, 1);
        sticky.opened(0x0a01_0203_u32.to_ip(), server, Now::from_ms(0));
        assert_eq!(
            sticky.find(0x0a01_02ff_u32.to_ip(), Now::from_ms(5000)),
            Some(server),
            "has a conn"
        );
        assert_eq!(sticky.find(0x0a01_03ff_u32.to_ip(), Now::from_ms(0)), None, "another prefix");
        sticky.closed(0x0a01_0203_u32.to_ip(), server, Now::from_ms(5000));
        assert_eq!(sticky.find(0x0a01_0204_u32.to_ip(), Now::from_ms(5999)), Some(server));
        assert_eq!(sticky.find(0x0a01_0204_u32.to_ip(), Now::from_ms(6000)), None);
        sticky.sweep(1000, Now::from_ms(6000));
        // 26 days on: the tick would make it look new.
        assert_eq!(sticky.find(0x0a01_0204_u32.to_ip(), Now::from_ms(26 * 86_400_000)), None);
    }

    #[test]
    fn families_are_kept_apart() {
        let mut sticky = table(64, 24);
        let (now, server) = (Now::from_ms(0), Slot::new(7, 1));
        let client = 0x2001_0db8_u128 << 96;
        sticky.opened((client | 5).to_ip(), server, now);
        assert_eq!(sticky.find((client | 9).to_ip(), now), Some(server), "of the same 64 bits");
        assert_eq!(sticky.find((client | 1 << 64).to_ip(), now), None);
        assert_eq!(sticky.find(0_u32.to_ip(), now), None);
        let mut next = Sticky::new(
            Remembered { prefix_len: 8, capacity: 64 },
            Remembered { prefix_len: 64, capacity: 64 },
        );
        sticky.opened(1_u32.to_ip(), server, now);
        next.configure(Some(Persistence {
            timeout_ms: 1000,
            v4: Remembered::default(),
            v6: Remembered::default(),
        }));
        next.follow(&mut sticky);
        assert_eq!(next.find(client.to_ip(), now), Some(server));
        assert_eq!((next.len(now), next.find(1_u32.to_ip(), now)), (1, None), "another prefix");
    }

    #[test]
    fn a_full_table_forgets_the_longest_idle() {
        let mut sticky = table(4, 32);
        let now = Now::from_ms(10);
        for source in 0..4_u32 {
            sticky.opened(source.to_ip(), Slot::new(source, 1), Now::from_ms(u64::from(source)));
            sticky.closed(source.to_ip(), Slot::new(source, 1), Now::from_ms(u64::from(source)));
        }
        sticky.opened(0_u32.to_ip(), Slot::new(0, 1), now);
        sticky.opened(9_u32.to_ip(), Slot::new(9, 1), now);
        assert_eq!(sticky.find(1_u32.to_ip(), now), None);
        for source in [0_u32, 2, 3, 9] {
            assert_eq!(sticky.find(source.to_ip(), now), Some(Slot::new(source, 1)));
        }
        assert_eq!(sticky.len(now), 4);
    }

    #[test]
    fn no_persistence_and_the_empty_prefix() {
        let mut sticky = Sticky::default();
        sticky.opened(1_u32.to_ip(), Slot::new(1, 1), Now::from_ms(0));
        assert_eq!(sticky.find(1_u32.to_ip(), Now::from_ms(0)), None);
        let mut sticky = table(4, 0);
        sticky.opened(1_u32.to_ip(), Slot::new(1, 1), Now::from_ms(0));
        assert_eq!(sticky.find(u32::MAX.to_ip(), Now::from_ms(0)), Some(Slot::new(1, 1)));
    }
}
