//! Rings from worker to worker, for packets whose key another one owns; and from each to itself, for those of a NAT
//! gateway that go out by one of its ports and come in by another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};
use types::{Address, WorkerId};

use crate::path::burst::Meta;

/// Packets that wait in one ring, at most; more are a counted drop at the sender.
pub const RING: usize = 1024;

/// A packet with what the sender found out about it.
#[derive(Debug)]
pub struct Handed<P, A = u32> {
    /// The packet.
    pub packet: P,
    /// Its parse result; the receiver goes on at `lookup`.
    pub meta: Meta<A>,
}

/// One worker's ends of all rings for packets of one lane.
#[derive(Debug)]
pub struct Handoff<P, A = u32> {
    to: Vec<Option<Outbound<P, A>>>,
    from: Vec<Option<Inbound<P, A>>>,
    /// Bumped by each sender after it put something in; one cache line shows which rings to look at.
    bells: Arc<[AtomicU8]>,
    turn: usize,
    looks: u8,
}

/// Each so many looks all rings are looked at: a bell may have come round to the value last seen.
const LOOKS: u8 = 128;

#[derive(Debug)]
struct Outbound<P, A> {
    ring: Producer<Handed<P, A>>,
    bells: Arc<[AtomicU8]>,
    /// Something was put in since the bell rang.
    news: bool,
    /// What the bell shows: one more each time that it rings.
    rung: u8,
}

#[derive(Debug)]
struct Inbound<P, A> {
    ring: Consumer<Handed<P, A>>,
    seen: u8,
}

impl<P, A: Address> Handoff<P, A> {
    /// The ends of `workers` workers, each connected with all, itself among them.
    pub fn mesh(workers: usize) -> Vec<Self> {
        let bells: Vec<Arc<[AtomicU8]>> =
            (0..workers).map(|_| (0..workers).map(|_| AtomicU8::new(0)).collect()).collect();
        let mut ends: Vec<Self> = bells
            .iter()
            .map(|mine| Self {
                to: (0..workers).map(|_| None).collect(),
                from: (0..workers).map(|_| None).collect(),
                bells: Arc::clone(mine),
                turn: 0,
                looks: 0,
            })
            .collect();
        for sender in 0..workers {
            for receiver in 0..workers {
                let (producer, consumer) = RingBuffer::new(RING);
                let theirs = bells.get(receiver).map(Arc::clone).unwrap_or_else(|| Arc::new([]));
                if let Some(to) = ends.get_mut(sender).and_then(|end| end.to.get_mut(receiver)) {
                    *to = Some(Outbound { ring: producer, bells: theirs, news: false, rung: 0 });
                }
                if let Some(from) = ends.get_mut(receiver).and_then(|end| end.from.get_mut(sender))
                {
                    *from = Some(Inbound { ring: consumer, seen: 0 });
                }
            }
        }
        ends
    }

    /// Puts a packet into the ring to `worker`; gives it back if the ring is full or there is none.
    #[inline]
    pub fn send(&mut self, worker: WorkerId, packet: P, meta: Meta<A>) -> Result<(), P> {
        let Some(to) = self.to.get_mut(usize::from(worker.0)).and_then(Option::as_mut) else {
            return Err(packet);
        };
        match to.ring.push(Handed { packet, meta }) {
            Ok(()) => {
                to.news = true;
                Ok(())
            }
            Err(rtrb::PushError::Full(handed)) => Err(handed.packet),
        }
    }

    /// Tells the receivers of what was sent since the last call; once a burst.
    #[inline]
    pub fn ring(&mut self, me: WorkerId) {
        for to in self.to.iter_mut().flatten().filter(|to| to.news) {
            to.news = false;
            to.rung = to.rung.wrapping_add(1);
            if let Some(bell) = to.bells.get(usize::from(me.0)) {
                bell.store(to.rung, Ordering::Release);
            }
        }
    }

    /// Calls `take` with up to `most` waiting packets of up to `rings` rings, fairly in turn.
    #[inline]
    pub fn receive(
        &mut self,
        rings: usize,
        most: usize,
        mut take: impl FnMut(Handed<P, A>),
    ) -> usize {
        let (mut taken, mut visited) = (0, 0);
        let workers = self.from.len();
        for step in 0..workers {
            if visited == rings || taken == most {
                break;
            }
            let sender = (self.turn + step) % workers;
            let Some(from) = self.from.get_mut(sender).and_then(Option::as_mut) else { continue };
            let Some(bell) = self.bells.get(sender) else { continue };
            let rung = bell.load(Ordering::Acquire);
            if rung == from.seen && self.looks != 0 {
                continue;
            }
            visited += 1;
            // Until it is seen empty it stays to be looked at, whatever its bell shows.
            from.seen = rung.wrapping_sub(1);
            while taken < most {
                let Ok(handed) = from.ring.pop() else {
                    from.seen = rung;
                    break;
                };
                take(handed);
                taken += 1;
            }
        }
        self.looks = (self.looks + 1) % LOOKS;
        self.turn = if workers == 0 { 0 } else { (self.turn + 1) % workers };
        taken
    }
}
