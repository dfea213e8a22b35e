//! Persistence: which server a client's source prefix had, in a table of fixed size.

use types::{Now, Slot};

use crate::hash::{Use, hash, reduce};
use crate::service::Persistence;

/// Clients in a set; one cache line.
const SET_LEN: usize = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Client {
    prefix: u32,
    /// [`Slot::NONE`]: nobody.
    server: Slot,
    /// When its last conn began or ended.
    last_ms: u32,
    /// Conns that it has; while there are any it does not expire.
    conns: u32,
}

impl Client {
    fn is_gone(&self, timeout_ms: u32, now: Now) -> bool {
        self.server.is_none() || (self.conns == 0 && now.since(self.last_ms) >= timeout_ms)
    }
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Set([Client; SET_LEN]);

/// The clients that one worker remembers for one service.
#[derive(Debug, Default)]
pub(crate) struct Sticky {
    sets: Box<[Set]>,
    prefix_len: u8,
    timeout_ms: u32,
    cursor: usize,
}

impl Sticky {
    pub(crate) fn new(clients: u32, prefix_len: u8) -> Self {
        let sets = vec![Set::default(); (clients as usize).div_ceil(SET_LEN)].into();
        Self { sets, prefix_len, timeout_ms: 0, cursor: 0 }
    }

    /// Takes on what is configured; without persistence nothing is found or kept.
    pub(crate) fn configure(&mut self, persistence: Option<Persistence>) {
        self.timeout_ms = persistence.map_or(0, |persistence| persistence.timeout_ms);
    }

    /// Can it hold as many clients, by the same prefix?
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.sets.len() == other.sets.len() && self.prefix_len == other.prefix_len
    }

    #[inline]
    fn prefix(&self, source: u32) -> u32 {
        source & u32::MAX.checked_shl(32 - u32::from(self.prefix_len)).unwrap_or(0)
    }

    #[inline]
    fn set(&self, prefix: u32) -> usize {
        reduce(hash(u64::from(prefix), Use::Sticky), self.sets.len())
    }

    /// The server that a source is to come back to.
    #[inline]
    pub(crate) fn find(&self, source: u32, now: Now) -> Option<Slot> {
        if self.timeout_ms == 0 {
            return None;
        }
        let prefix = self.prefix(source);
        let Set(clients) = self.sets.get(self.set(prefix))?;
        let client = clients
            .iter()
            .find(|client| client.prefix == prefix && !client.is_gone(self.timeout_ms, now))?;
        Some(client.server)
    }

    /// A conn of a source began at a server.
    #[inline]
    pub(crate) fn opened(&mut self, source: u32, server: Slot, now: Now) {
        if self.timeout_ms == 0 {
            return;
        }
        let (prefix, timeout_ms) = (self.prefix(source), self.timeout_ms);
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

    /// A conn of a source ended at a server.
    #[inline]
    pub(crate) fn closed(&mut self, source: u32, server: Slot, now: Now) {
        let prefix = self.prefix(source);
        let set = self.set(prefix);
        let Some(Set(clients)) = self.sets.get_mut(set) else { return };
        let client =
            clients.iter_mut().find(|client| client.prefix == prefix && client.server == server);
        if let Some(client) = client {
            client.conns = client.conns.saturating_sub(1);
            client.last_ms = now.tick_ms;
        }
    }

    /// Forgets who expired in the next `budget` sets, so that none outlives the tick's wrap.
    pub(crate) fn sweep(&mut self, budget: usize, now: Now) {
        for _ in 0..budget.min(self.sets.len()) {
            if let Some(Set(clients)) = self.sets.get_mut(self.cursor) {
                for client in clients {
                    if client.is_gone(self.timeout_ms, now) {
                        *client = Client::default();
                    }
                }
            }
            self.cursor = if self.cursor + 1 >= self.sets.len() { 0 } else { self.cursor + 1 };
        }
    }

    /// Clients remembered; walks the table.
    pub(crate) fn len(&self, now: Now) -> usize {
        let clients = self.sets.iter().flat_map(|Set(clients)| clients);
        clients.filter(|client| !client.is_gone(self.timeout_ms, now)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(clients: u32, prefix_len: u8) -> Sticky {
        let mut sticky = Sticky::new(clients, prefix_len);
        let capacity = clients;
        sticky.configure(Some(Persistence { prefix_len, timeout_ms: 1000, capacity }));
        sticky
    }

    #[test]
    fn a_prefix_comes_back_until_it_expires() {
        let mut sticky = table(64, 24);
        let server = Slot::new(7, 1);
        sticky.opened(0x0a01_0203, server, Now::from_ms(0));
        assert_eq!(sticky.find(0x0a01_02ff, Now::from_ms(5000)), Some(server), "has a conn");
        assert_eq!(sticky.find(0x0a01_03ff, Now::from_ms(0)), None, "another prefix");
        sticky.closed(0x0a01_0203, server, Now::from_ms(5000));
        assert_eq!(sticky.find(0x0a01_0204, Now::from_ms(5999)), Some(server));
        assert_eq!(sticky.find(0x0a01_0204, Now::from_ms(6000)), None);
        sticky.sweep(1000, Now::from_ms(6000));
        // 26 days on: the tick would make it look new.
        assert_eq!(sticky.find(0x0a01_0204, Now::from_ms(26 * 86_400_000)), None);
    }

    #[test]
    fn a_full_table_forgets_the_longest_idle() {
        let mut sticky = table(4, 32);
        let now = Now::from_ms(10);
        for source in 0..4 {
            sticky.opened(source, Slot::new(source, 1), Now::from_ms(u64::from(source)));
            sticky.closed(source, Slot::new(source, 1), Now::from_ms(u64::from(source)));
        }
        sticky.opened(0, Slot::new(0, 1), now);
        sticky.opened(9, Slot::new(9, 1), now);
        assert_eq!(sticky.find(1, now), None);
        for source in [0, 2, 3, 9] {
            assert_eq!(sticky.find(source, now), Some(Slot::new(source, 1)));
        }
        assert_eq!(sticky.len(now), 4);
    }

    #[test]
    fn no_persistence_and_the_empty_prefix() {
        let mut sticky = Sticky::default();
        sticky.opened(1, Slot::new(1, 1), Now::from_ms(0));
        assert_eq!(sticky.find(1, Now::from_ms(0)), None);
        let mut sticky = table(4, 0);
        sticky.opened(1, Slot::new(1, 1), Now::from_ms(0));
        assert_eq!(sticky.find(u32::MAX, Now::from_ms(0)), Some(Slot::new(1, 1)));
    }
}
