//! SYNs from outside that nobody expected, for six seconds (RFC 5382 REQ-4).

use std::collections::VecDeque;

use types::{FlowKey, Now};

/// How long a SYN goes unanswered, milliseconds: RFC 5382 REQ-4 asks for six seconds at least.
const SILENCE_MS: u32 = 6_000;

/// What an ICMP error may quote: the longest IPv4 header, and eight bytes (RFC 792).
pub const QUOTE_MAX: usize = 68;

/// A SYN, as far as its answer quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldSyn {
    /// Its key as it arrived.
    pub key: FlowKey,
    quote: [u8; QUOTE_MAX],
    quote_len: u8,
    since_ms: u32,
}

impl HeldSyn {
    /// The packet from its IP header on, cut off.
    pub fn quote(&self) -> &[u8] {
        self.quote.get(..usize::from(self.quote_len)).unwrap_or(&[])
    }
}

/// In the order in which they came.
pub(super) struct HeldSyns {
    waiting: VecDeque<HeldSyn>,
    max: usize,
}

impl HeldSyns {
    pub(super) fn new(max: u32) -> Self {
        Self { waiting: VecDeque::with_capacity(max as usize), max: max as usize }
    }

    pub(super) const fn reserved_bytes(max: u32) -> u64 {
        max as u64 * size_of::<HeldSyn>() as u64
    }

    pub(super) fn hold(&mut self, key: &FlowKey, packet: &[u8], now: Now) -> bool {
        if self.waiting.len() >= self.max {
            return false;
        }
        let mut quote = [0; QUOTE_MAX];
        let quote_len = quote.iter_mut().zip(packet).map(|(to, from)| *to = *from).count() as u8;
        self.waiting.push_back(HeldSyn { key: *key, quote, quote_len, since_ms: now.tick_ms });
        true
    }

    pub(super) fn next_due(
        &mut self,
        now: Now,
        budget: &mut u32,
        is_answered: impl Fn(&FlowKey) -> bool,
    ) -> Option<HeldSyn> {
        while *budget > 0 {
            let due = self.waiting.front().is_some_and(|syn| now.since(syn.since_ms) >= SILENCE_MS);
            let syn = if due { self.waiting.pop_front()? } else { return None };
            *budget -= 1;
            if !is_answered(&syn.key) {
                return Some(syn);
            }
        }
        None
    }
}
