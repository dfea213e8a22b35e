//! The headers of the PROXY protocol that conns of a worker have on their way, and when each is to be sent again.

use flow::{ConnId, HeaderState};
use types::Now;

/// Headers that a worker has on their way, at most.
pub const HEADERS_MAX: usize = 1 << 16;
/// Places of the index: at least half are free.
const PLACES: usize = HEADERS_MAX * 2;
const NONE: u32 = u32::MAX;

/// How long a client that may send a header of its own is waited for: its first segment may be lost once
/// (`proxy-protocol.txt` §2 asks for 3 s at least).
const WAIT_MS: u32 = 3_000;
/// A header that is not acknowledged is sent again after so long, then after twice as long, and so on.
const FIRST_RETRY_MS: u32 = 200;
/// It is sent so often before the conn is given up: 51 s in all.
pub const SENT_MAX: u8 = 8;
/// With more than so many on their way, those that have waited longest make room.
const CROWDED: u32 = (HEADERS_MAX / 8 * 7) as u32;
/// Who has not acknowledged a header that was sent so many times, after 1.4 s, is given up then.
const CROWDED_SENT: u8 = 4;
/// How long numbers are still watched when all is done: what was sent before may overtake what follows.
const LINGER_MS: u32 = 1_000;

/// Where an entry stands: in a list of those that wait equally long, the next one due at its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The client's first bytes are waited for.
    Waiting,
    /// The header was sent so many times, and is not acknowledged.
    Sent(u8),
    /// It is acknowledged, and the client has sent nothing yet. For as long as it likes.
    Listening,
    /// All is done.
    Settled,
}

const LISTENING: usize = SENT_MAX as usize + 1;
const SETTLED: usize = LISTENING + 1;
const LISTS: usize = SETTLED + 1;

impl Phase {
    fn list(self) -> usize {
        match self {
            Self::Waiting => 0,
            Self::Sent(times) => usize::from(times.clamp(1, SENT_MAX)),
            Self::Listening => LISTENING,
            Self::Settled => SETTLED,
        }
    }

    fn of(list: usize) -> Self {
        match list {
            0 => Self::Waiting,
            LISTENING => Self::Listening,
            SETTLED => Self::Settled,
            times => Self::Sent(times as u8),
        }
    }

    /// When it is due, if ever.
    const fn due_ms(self) -> Option<u32> {
        match self {
            Self::Waiting => Some(WAIT_MS),
            Self::Sent(times) => Some(FIRST_RETRY_MS << (times - 1)),
            Self::Listening => None,
            Self::Settled => Some(LINGER_MS),
        }
    }
}

/// Whose an entry is: a conn of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The conn.
    pub conn: ConnId,
    /// Of the wide lane.
    pub wide: bool,
}

impl Owner {
    const fn place(self) -> usize {
        let number = self.conn.0 as u64 * 2 + self.wide as u64;
        (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % PLACES
    }
}

/// What is known of a header.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    owner: Owner,
    phase: Phase,
    since_ms: u32,
    prev: u32,
    next: u32,
    /// How long the header is, in bytes.
    pub len: u8,
    /// The server has said that it has no room for it.
    pub no_room: bool,
    /// It was sent again, for the server seems to miss it, since it was due last.
    pub hurried: bool,
    /// What another node has to know of it.
    pub state: HeaderState,
}

impl Entry {
    /// Where it stands.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The number of what follows the header, as the server counts.
    pub const fn end(&self) -> u32 {
        self.state.start.wrapping_add(self.len as u32)
    }
}

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
}

/// All headers that are on their way. Memory is reserved at start, and taken by those who need it.
#[derive(Debug)]
pub struct Headers {
    entries: Vec<Entry>,
    /// Entries by owner, each one's number plus one; 0 is a free place. Linear probing.
    index: Box<[u32]>,
    lists: [List; LISTS],
    free: u32,
    len: u32,
}

impl Default for Headers {
    fn default() -> Self {
        Self {
            entries: Vec::with_capacity(HEADERS_MAX),
            index: vec![0; PLACES].into(),
            lists: [List { head: NONE, tail: NONE }; LISTS],
            free: NONE,
            len: 0,
        }
    }
}

impl Headers {
    /// How many there are.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// True if there is none.
    #[inline(always)]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn places(from: usize) -> impl Iterator<Item = usize> {
        (0..PLACES).map(move |n| (from + n) % PLACES)
    }

    /// The place of an owner in the index, and the number of its entry.
    fn position(&self, owner: Owner) -> Option<(usize, u32)> {
        for place in Self::places(owner.place()) {
            let number = self.index.get(place)?.checked_sub(1)?;
            if self.entries.get(number as usize)?.owner == owner {
                return Some((place, number));
            }
        }
        None
    }

    /// What is known of a conn's header.
    pub fn find(&self, owner: Owner) -> Option<&Entry> {
        let (_, number) = self.position(owner)?;
        self.entries.get(number as usize)
    }

    /// The same, to change it.
    pub fn find_mut(&mut self, owner: Owner) -> Option<&mut Entry> {
        let (_, number) = self.position(owner)?;
        self.entries.get_mut(number as usize)
    }

    /// The conn whose entry goes first when there is no room: one that has no header to send any more.
    pub fn victim(&self) -> Option<Owner> {
        let first = |list: usize| self.lists.get(list).map_or(NONE, |list| list.head);
        let number = [SETTLED, LISTENING].into_iter().map(first).find(|&first| first != NONE)?;
        self.entries.get(number as usize).map(|entry| entry.owner)
    }

    /// True if there is no room for another one.
    pub const fn is_full(&self) -> bool {
        self.len as usize >= HEADERS_MAX
    }

    /// Takes a conn's header in; false without room, or if there is one already.
    pub fn insert(
        &mut self,
        owner: Owner,
        phase: Phase,
        (len, state): (u8, HeaderState),
        now: Now,
    ) -> bool {
        if self.is_full() || self.position(owner).is_some() {
            return false;
        }
        let (prev, next, since_ms) = (NONE, NONE, now.tick_ms);
        let (no_room, hurried) = (false, false);
        let entry = Entry { owner, phase, since_ms, prev, next, len, no_room, hurried, state };
        let number = match self.entries.get_mut(self.free as usize) {
            Some(place) => {
                let number = self.free;
                self.free = place.next;
                *place = entry;
                number
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        let vacant = Self::places(owner.place()).find(|&at| self.index.get(at) == Some(&0));
        if let Some(place) = vacant.and_then(|at| self.index.get_mut(at)) {
            *place = number + 1;
        }
        self.len += 1;
        self.link(number, phase, now);
        true
    }

    /// Removes a conn's header.
    pub fn remove(&mut self, owner: Owner) {
        let Some((place, number)) = self.position(owner) else { return };
        self.unlink(number);
        if let Some(entry) = self.entries.get_mut(number as usize) {
            entry.next = self.free;
            self.free = number;
        }
        self.len -= 1;
        self.vacate(place);
    }

    /// Frees a place of the index; those behind it that it kept from theirs move up.
    fn vacate(&mut self, place: usize) {
        let mut hole = place;
        for at in Self::places(place + 1) {
            let Some(&number) = self.index.get(at) else { break };
            let Some(entry) = number.checked_sub(1).and_then(|n| self.entries.get(n as usize))
            else {
                break;
            };
            let home = entry.owner.place();
            // It may stand in the hole if its home is not between the hole and it.
            if (at + PLACES - home) % PLACES >= (at + PLACES - hole) % PLACES {
                if let Some(place) = self.index.get_mut(hole) {
                    *place = number;
                }
                hole = at;
            }
        }
        if let Some(place) = self.index.get_mut(hole) {
            *place = 0;
        }
    }

    /// Puts a conn's header to another phase, from now on.
    pub fn enter(&mut self, owner: Owner, phase: Phase, now: Now) {
        if let Some((_, number)) = self.position(owner) {
            self.unlink(number);
            self.link(number, phase, now);
        }
    }

    /// The next one that is due; it stays where it is. In want of room it may be due early, for the last time.
    pub fn next_due(&self, now: Now) -> Option<(Owner, Phase)> {
        let due = self.lists.iter().enumerate().find_map(|(list, List { head, .. })| {
            let entry = self.entries.get(*head as usize)?;
            let due_ms = Phase::of(list).due_ms()?;
            (now.since(entry.since_ms) >= due_ms).then_some((entry.owner, entry.phase))
        });
        due.or_else(|| if self.len > CROWDED { self.next_to_go() } else { None })
    }

    /// Of those that wait for a client, or for a server, the one that has waited longest.
    fn next_to_go(&self) -> Option<(Owner, Phase)> {
        let first = |phase: Phase| {
            let head = self.lists.get(phase.list())?.head;
            Some(self.entries.get(head as usize)?.owner)
        };
        let sent = || (CROWDED_SENT..=SENT_MAX).rev().find_map(|times| first(Phase::Sent(times)));
        let waiting = first(Phase::Waiting).map(|owner| (owner, Phase::Waiting));
        waiting.or_else(|| sent().map(|owner| (owner, Phase::Sent(SENT_MAX))))
    }

    /// Puts an entry at the end of its list.
    fn link(&mut self, number: u32, phase: Phase, now: Now) {
        let Some(list) = self.lists.get_mut(phase.list()) else { return };
        let tail = std::mem::replace(&mut list.tail, number);
        if tail == NONE {
            list.head = number;
        }
        if let Some(last) = self.entries.get_mut(tail as usize) {
            last.next = number;
        }
        if let Some(entry) = self.entries.get_mut(number as usize) {
            (entry.phase, entry.since_ms, entry.prev, entry.next) =
                (phase, now.tick_ms, tail, NONE);
        }
    }

    fn unlink(&mut self, number: u32) {
        let Some(&Entry { phase, prev, next, .. }) = self.entries.get(number as usize) else {
            return;
        };
        let Some(list) = self.lists.get_mut(phase.list()) else { return };
        if list.head == number {
            list.head = next;
        }
        if list.tail == number {
            list.tail = prev;
        }
        if let Some(before) = self.entries.get_mut(prev as usize) {
            before.next = next;
        }
        if let Some(behind) = self.entries.get_mut(next as usize) {
            behind.prev = prev;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn owner(n: u32) -> Owner {
        Owner { conn: ConnId(n >> 1), wide: n & 1 != 0 }
    }

    fn insert(headers: &mut Headers, n: u32, phase: Phase, now: Now) -> bool {
        let state = HeaderState { start: n, ..HeaderState::default() };
        headers.insert(owner(n), phase, (28, state), now)
    }

    #[test]
    fn each_is_due_when_its_phase_says() {
        let mut headers = Headers::default();
        assert!(headers.next_due(Now::from_ms(9)).is_none());
        for (n, phase) in
            [Phase::Waiting, Phase::Sent(1), Phase::Sent(3), Phase::Listening, Phase::Settled]
                .into_iter()
                .enumerate()
        {
            assert!(insert(&mut headers, n as u32, phase, Now::from_ms(0)));
            assert!(!insert(&mut headers, n as u32, phase, Now::from_ms(0)), "it is there");
        }
        let mut due = Vec::new();
        for ms in 0..10_000 {
            while let Some((owner, phase)) = headers.next_due(Now::from_ms(ms)) {
                due.push((ms, phase));
                headers.remove(owner);
            }
        }
        let expected = [
            (200, Phase::Sent(1)),
            (800, Phase::Sent(3)),
            (1_000, Phase::Settled),
            (3_000, Phase::Waiting),
        ];
        assert_eq!((due, headers.len()), (expected.to_vec(), 1));
        assert_eq!(headers.victim(), Some(owner(3)));
    }

    /// Against a map, with owners that meet in the index.
    #[test]
    fn what_is_in_is_found_and_nothing_else() {
        let mut headers = Headers::default();
        let mut model = HashMap::new();
        let mut random = 1u32;
        for turn in 0..200_000u32 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let n = random >> 8 & 0xfff;
            let (now, phase) =
                (Now::from_ms(turn.into()), Phase::of((random >> 24) as usize % LISTS));
            match random >> 28 & 3 {
                0 | 1 => {
                    let fresh = insert(&mut headers, n, phase, now);
                    assert_eq!(fresh, model.insert(n, phase).is_none());
                    if !fresh {
                        headers.enter(owner(n), phase, now);
                    }
                }
                2 => {
                    headers.remove(owner(n));
                    model.remove(&n);
                }
                _ => {
                    let found =
                        headers.find(owner(n)).map(|entry| (entry.state.start, entry.phase()));
                    assert_eq!(found, model.get(&n).map(|phase| (n, *phase)));
                }
            }
            assert_eq!(headers.len() as usize, model.len());
        }
        for n in 0..0x1000 {
            headers.remove(owner(n));
        }
        assert!(headers.is_empty() && headers.index.iter().all(|place| *place == 0));
        assert!(headers.lists.iter().all(|list| list.head == NONE && list.tail == NONE));
    }

    #[test]
    fn in_want_of_room_who_waits_longest_is_due() {
        let mut headers = Headers::default();
        let now = Now::from_ms(0);
        for n in 0..CROWDED {
            let phase = if n < 2 { Phase::Waiting } else { Phase::Sent((n % 8) as u8 + 1) };
            assert!(insert(&mut headers, n, phase, now));
        }
        assert_eq!(headers.next_due(now), None);
        for n in CROWDED..CROWDED + 4 {
            assert!(insert(&mut headers, n, Phase::Sent(1), now));
        }
        let mut due = Vec::new();
        while let Some((owner, phase)) = headers.next_due(now) {
            due.push((owner, phase));
            headers.remove(owner);
        }
        let given_up = |n| (owner(n), Phase::Sent(SENT_MAX));
        let expected =
            [(owner(0), Phase::Waiting), (owner(1), Phase::Waiting), given_up(7), given_up(15)];
        assert_eq!(due, expected);
    }

    #[test]
    fn it_takes_as_many_as_it_says() {
        let mut headers = Headers::default();
        let now = Now::from_ms(0);
        for n in 0..HEADERS_MAX as u32 {
            assert!(insert(&mut headers, n, Phase::Sent(1), now));
        }
        assert!(headers.is_full() && headers.victim().is_none());
        assert!(!insert(&mut headers, u32::MAX, Phase::Sent(1), now));
        assert!(headers.find(owner(HEADERS_MAX as u32 - 1)).is_some());
        assert_eq!(headers.entries.capacity(), HEADERS_MAX, "nothing was allocated");
    }
}
