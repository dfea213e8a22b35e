//! Ports that rest, in the order in which their rests end, however long each is.

use types::{Now, Proto};

/// No place.
const NONE: u32 = u32::MAX;
/// Queues: as many lengths of rests as go side by side. With more of them one may hold up another.
const QUEUES: usize = 16;

/// A port that rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) until_ms: u32,
    pub(super) address: u16,
    pub(super) generation: u16,
    pub(super) l4_port: u16,
    pub(super) proto: Proto,
}

struct Node {
    rest: Rest,
    next: u32,
}

/// A queue in which no rest ends before the one ahead of it.
#[derive(Clone, Copy)]
struct Queue {
    head: u32,
    tail: u32,
}

/// All rests of a worker. A rest goes to the queue whose last one ends before it, and latest: so rests of one length
/// are in one queue, and none waits for a longer one.
pub(super) struct Rests {
    nodes: Vec<Node>,
    max: usize,
    free: u32,
    queues: [Queue; QUEUES],
    len: usize,
}

/// How much later one tick is than another, also across the wrap.
const fn later(a_ms: u32, b_ms: u32) -> i32 {
    a_ms.wrapping_sub(b_ms) as i32
}

impl Rests {
    /// Nothing is allocated later.
    pub(super) fn new(max: u32) -> Self {
        let queues = [Queue { head: NONE, tail: NONE }; QUEUES];
        let nodes = Vec::with_capacity(max as usize);
        Self { nodes, max: max as usize, free: NONE, queues, len: 0 }
    }

    pub(super) const fn reserved_bytes(max: u32) -> u64 {
        max as u64 * size_of::<Node>() as u64
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_full(&self) -> bool {
        self.len >= self.max
    }

    /// Whether there may be any at all.
    pub(super) const fn has_room(&self) -> bool {
        self.max != 0
    }

    fn until(&self, node: u32) -> Option<u32> {
        self.nodes.get(node as usize).map(|node| node.rest.until_ms)
    }

    /// The queue that a rest goes to.
    fn queue_for(&self, until_ms: u32) -> usize {
        // A queue that fits is better than an empty one, and that than one whose last rest ends later.
        let rank = |queue: &Queue| match self.until(queue.tail) {
            None => (1, 0),
            Some(tail_ms) => match later(until_ms, tail_ms) {
                wait @ 0.. => (0, wait),
                early => (2, early.saturating_neg()),
            },
        };
        let best = self.queues.iter().enumerate().min_by_key(|(_, queue)| rank(queue));
        best.map_or(0, |(at, _)| at)
    }

    /// Adds a rest; false if there is no room.
    pub(super) fn push(&mut self, rest: Rest) -> bool {
        if self.is_full() {
            return false;
        }
        let queue = self.queue_for(rest.until_ms);
        let node = Node { rest, next: NONE };
        let at = self.free;
        let at = match self.nodes.get_mut(at as usize) {
            Some(free) => {
                self.free = free.next;
                *free = node;
                at
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        let Some(queue) = self.queues.get_mut(queue) else { return false };
        match self.nodes.get_mut(queue.tail as usize) {
            Some(tail) => tail.next = at,
            None => queue.head = at,
        }
        queue.tail = at;
        self.len += 1;
        true
    }

    /// The queue whose first rest ends first.
    fn first(&self) -> Option<(usize, u32)> {
        let heads = self.queues.iter().enumerate();
        let heads = heads.filter_map(|(at, queue)| Some((at, self.until(queue.head)?)));
        heads.reduce(|best, head| if later(head.1, best.1) < 0 { head } else { best })
    }

    /// Takes the rest out that ends first.
    pub(super) fn pop(&mut self) -> Option<Rest> {
        let (queue, _) = self.first()?;
        let queue = self.queues.get_mut(queue)?;
        let at = queue.head;
        let node = self.nodes.get_mut(at as usize)?;
        let rest = node.rest;
        queue.head = node.next;
        if queue.head == NONE {
            queue.tail = NONE;
        }
        node.next = self.free;
        self.free = at;
        self.len -= 1;
        Some(rest)
    }

    /// Takes a rest out that is over, if there is one.
    pub(super) fn pop_over(&mut self, now: Now) -> Option<Rest> {
        let (_, until_ms) = self.first()?;
        if later(now.tick_ms, until_ms) < 0 { None } else { self.pop() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(until_ms: u32) -> Rest {
        Rest { until_ms, address: 0, generation: 1, l4_port: 1, proto: Proto::Udp }
    }

    #[test]
    fn the_first_to_end_is_the_first_out_whatever_came_first() {
        let mut rests = Rests::new(64);
        // Across the wrap of the ticks; eight lengths in disorder, each again and again.
        let start = u32::MAX - 500;
        let mut all: Vec<u32> = Vec::new();
        for round in 0..8_u32 {
            for length in [4_000, 10, 900, 50, 2_000, 0, 120, 7] {
                let until_ms = start.wrapping_add(round * 100 + length);
                assert!(rests.push(rest(until_ms)));
                all.push(round * 100 + length);
            }
        }
        assert!(rests.is_full() && !rests.push(rest(0)));
        all.sort_unstable();
        let ended: Vec<u32> = std::iter::from_fn(|| rests.pop())
            .map(|rest| rest.until_ms.wrapping_sub(start))
            .collect();
        assert_eq!(ended, all);
        assert_eq!((rests.len(), rests.pop()), (0, None));
    }

    #[test]
    fn places_are_used_again_and_more_lengths_than_queues_lose_nothing() {
        let mut rests = Rests::new(40);
        for round in 0..3 {
            for n in 0..40_u32 {
                assert!(rests.push(rest(round * 1_000 + 100 - n)));
            }
            assert_eq!(rests.pop_over(Now::from_ms(0)), None);
            let end = Now::from_ms(u64::from(round) * 1_000 + 100);
            assert_eq!(std::iter::from_fn(|| rests.pop_over(end)).count(), 40);
            assert_eq!(rests.nodes.len(), 40);
        }
    }
}
