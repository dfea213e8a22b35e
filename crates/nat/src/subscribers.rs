//! Inside addresses: which WAN IP each has, and how much of what (RFC 6888 REQ-2, 4 and 5).

use types::{KeyedHash, Now, Slot, Verdict};

use crate::table::Table;

/// A subscriber: its place, until it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriberId(pub(crate) u32);

/// How much an inside address may have; 0 for as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Ports and identifiers at once (RFC 6888 REQ-4).
    pub ports: u32,
    /// Conns at once (RFC 6888 REQ-5).
    pub sessions: u32,
    /// Conns opened in a second; as many may come at once after a quiet second.
    pub new_sessions_per_second: u32,
}

/// An inside address under one rule. It is known while it has ports or conns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The inside address.
    pub address: u32,
    /// The rule.
    pub rule: Slot,
    /// Ports and identifiers.
    pub ports: u32,
    /// Conns.
    pub sessions: u32,
    /// Thousandths of conns that may be opened now.
    tokens: u32,
    filled_ms: u32,
    /// Conns from outside that it has not answered; they are not among `sessions`.
    pub unanswered: u16,
    /// Zone of the address.
    pub zone: u16,
    /// The place of its WAN IP; of use while it has ports.
    pub place: u16,
}

/// The subscribers of one worker.
pub struct Subscribers {
    entries: Table<Subscriber, 1>,
    keyed: KeyedHash,
}

impl Subscribers {
    /// For so many; nothing is allocated later.
    pub fn new(max_subscribers: u32, seed: [u64; 2]) -> Self {
        Self { entries: Table::new(max_subscribers), keyed: KeyedHash::new(seed) }
    }

    /// Bytes that [`Subscribers::new`] reserves.
    pub const fn reserved_bytes(max_subscribers: u32) -> u64 {
        Table::<Subscriber, 1>::reserved_bytes(max_subscribers)
    }

    #[inline]
    fn hash(&self, address: u32, zone: u16, rule: Slot) -> u64 {
        self.keyed.hash(u64::from(address) << 16 | u64::from(zone), rule.to_bits().into())
    }

    /// A number that depends on the address only, whatever the rule, the same on all workers of one seed: rules with
    /// the same WAN IPs give an inside address the same one (RFC 6888 REQ-2, RFC 7857 §4).
    #[inline]
    pub(crate) fn draw(&self, address: u32, zone: u16) -> u64 {
        self.keyed.hash(u64::from(address) << 16 | u64::from(zone), 1 << 63)
    }

    /// The subscriber of an inside address under a rule.
    #[inline]
    pub fn find(&self, address: u32, zone: u16, rule: Slot) -> Option<SubscriberId> {
        let hash = self.hash(address, zone, rule);
        let wanted = |s: &Subscriber| s.address == address && s.zone == zone && s.rule == rule;
        self.entries.find(0, hash, wanted).map(SubscriberId)
    }

    /// A subscriber.
    #[inline]
    pub fn get(&self, id: SubscriberId) -> Option<&Subscriber> {
        self.entries.get(id.0)
    }

    /// The subscriber of an inside address, known from now on; `None` if there is no room.
    pub(crate) fn enter(
        &mut self,
        address: u32,
        zone: u16,
        rule: Slot,
        limits: &Limits,
        now: Now,
    ) -> Option<SubscriberId> {
        if let Some(id) = self.find(address, zone, rule) {
            return Some(id);
        }
        let tokens = limits.new_sessions_per_second.saturating_mul(1_000);
        let entry = Subscriber {
            address,
            rule,
            ports: 0,
            sessions: 0,
            tokens,
            filled_ms: now.tick_ms,
            unanswered: 0,
            zone,
            place: 0,
        };
        let hash = self.hash(address, zone, rule);
        self.entries.insert([hash], entry).map(SubscriberId)
    }

    /// One conn more and, with `port`, one port more.
    ///
    /// # Errors
    /// [`Verdict::SubscriberLimit`]; nothing has changed then.
    pub(crate) fn admit(
        &mut self,
        id: SubscriberId,
        limits: &Limits,
        port: bool,
        now: Now,
    ) -> Result<(), Verdict> {
        let subscriber = self.entries.get_mut(id.0).ok_or(Verdict::Internal)?;
        let reached = |limit: u32, count: u32| limit != 0 && count >= limit;
        if port && reached(limits.ports, subscriber.ports)
            || reached(limits.sessions, subscriber.sessions)
            || !subscriber.take_token(limits.new_sessions_per_second, now)
        {
            return Err(Verdict::SubscriberLimit);
        }
        subscriber.sessions += 1;
        subscriber.ports += u32::from(port);
        Ok(())
    }

    /// A conn that was admitted does not come to be: it may open another one in its place at once.
    pub(crate) fn refund(&mut self, id: SubscriberId) {
        if let Some(subscriber) = self.entries.get_mut(id.0) {
            subscriber.tokens = subscriber.tokens.saturating_add(1_000);
        }
    }

    /// One more unanswered conn from outside, or one less.
    pub(crate) fn count_unanswered(&mut self, id: SubscriberId, more: bool) {
        if let Some(subscriber) = self.entries.get_mut(id.0) {
            subscriber.unanswered = match more {
                true => subscriber.unanswered.saturating_add(1),
                false => subscriber.unanswered.saturating_sub(1),
            };
        }
    }

    /// Notes which WAN IP a subscriber has.
    pub(crate) fn pair(&mut self, id: SubscriberId, place: u16) {
        if let Some(subscriber) = self.entries.get_mut(id.0) {
            subscriber.place = place;
        }
    }

    /// So many conns and ports less; who has none left is forgotten.
    pub(crate) fn leave(&mut self, id: SubscriberId, sessions: u32, ports: u32) {
        let Some(subscriber) = self.entries.get_mut(id.0) else { return };
        subscriber.sessions = subscriber.sessions.saturating_sub(sessions);
        subscriber.ports = subscriber.ports.saturating_sub(ports);
        let Subscriber { address, zone, rule, sessions, ports, .. } = *subscriber;
        if sessions == 0 && ports == 0 {
            let hash = self.hash(address, zone, rule);
            self.entries.remove([hash], id.0);
        }
    }

    /// How many there are.
    pub const fn len(&self) -> u32 {
        self.entries.len()
    }

    /// True if there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next subscriber at or after a place, and where to go on; so that all can be walked in
    /// portions of `budget` places.
    pub fn next(&self, cursor: &mut u32, budget: &mut u32) -> Option<Subscriber> {
        while *budget > 0 && *cursor < self.entries.high_water() {
            *budget -= 1;
            *cursor += 1;
            if let Some(subscriber) = self.entries.get(*cursor - 1) {
                return Some(*subscriber);
            }
        }
        None
    }
}

impl Subscriber {
    /// Conns that may be opened at once now, of so many a second.
    pub fn new_sessions_left(&self, per_second: u32, now: Now) -> u32 {
        self.filled(per_second, now) / 1_000
    }

    /// Thousandths of conns in the bucket by now.
    fn filled(&self, per_second: u32, now: Now) -> u32 {
        let most = per_second.saturating_mul(1_000);
        let filled = u64::from(now.since(self.filled_ms)) * u64::from(per_second);
        (u64::from(self.tokens) + filled).min(most.into()) as u32
    }

    /// Takes a conn out of the bucket that fills with so many a second.
    fn take_token(&mut self, per_second: u32, now: Now) -> bool {
        if per_second == 0 {
            return true;
        }
        let tokens = self.filled(per_second, now);
        self.filled_ms = now.tick_ms;
        self.tokens = tokens.checked_sub(1_000).unwrap_or(tokens);
        tokens >= 1_000
    }
}
