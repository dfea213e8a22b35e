//! What SNAT, DNAT and hairpinning write for a conn: two flows that exchange addresses and ports.

use flow::{Flow, ImportError, LeaseKind, Record, RecordFlow, State, flags};
use types::{Endpoint, FlowKey};

use crate::Family;
use crate::rewrite::deltas;

/// The flows of a new conn, forward first: packets of `key` become packets of `new_key`, and answers
/// to those become answers to what was sent. Numbers of TCP stay as they are.
///
/// If both keys are the same, the conn is tracked and nothing of it is rewritten but the TTL.
pub fn flows<A: Family>(key: FlowKey<A>, new_key: FlowKey<A>) -> (Flow<A>, Flow<A>) {
    let forward = Flow { state: State::opening(key.proto), ..translating(key, new_key) };
    let answer = translating(new_key.reversed(), key.reversed());
    let reverse = Flow { state: forward.state, flags: answer.flags | flags::REVERSE, ..answer };
    (forward, reverse)
}

/// A flow that turns packets of one key into packets of another, with no other adjustment.
pub(crate) fn translating<A: Family>(key: FlowKey<A>, into: FlowKey<A>) -> Flow<A> {
    let deltas = deltas(key, into);
    let mut flow = Flow::with_key(key);
    flow.new_src = into.src;
    flow.new_dst = into.dst;
    flow.new_sport = into.sport;
    flow.new_dport = into.dport;
    flow.l3_delta = deltas.l3;
    flow.l4_delta = deltas.l4;
    flow
}

/// A conn between two inside hosts as the two that it is where their mappings are of two workers: out of the first one's
/// mapping, and into the second one's. Packets that were counted stay with the first.
///
/// # Errors
/// An address that is not an IPv4 one.
pub fn halves(record: &Record) -> Result<[Record; 2], ImportError> {
    let [key, answer] = record.keys::<u32>()?;
    let new_key = FlowKey { zone: key.zone, ..answer.reversed() };
    // From one outside endpoint to the other.
    let between = FlowKey { src: new_key.src, sport: new_key.sport, ..key };
    let out = half(record, flows(key, between));
    let mut into = Record { lease: LeaseKind::Mapping, ..half(record, flows(between, new_key)) };
    for flow in [&mut into.forward, &mut into.reverse] {
        (flow.packets, flow.bytes) = (0, 0);
    }
    Ok([out, into])
}

/// A record with the endpoints of these flows.
fn half(record: &Record, (forward, reverse): (Flow, Flow)) -> Record {
    let of = |whole: &RecordFlow, flow: &Flow| RecordFlow {
        source: Endpoint::new(flow.src, flow.sport),
        destination: Endpoint::new(flow.dst, flow.dport),
        new_source: Endpoint::new(flow.new_src, flow.new_sport),
        new_destination: Endpoint::new(flow.new_dst, flow.new_dport),
        l3_delta: flow.l3_delta,
        l4_delta: flow.l4_delta,
        ..whole.clone()
    };
    let (forward, reverse) = (of(&record.forward, &forward), of(&record.reverse, &reverse));
    Record { forward, reverse, ..record.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FlowKey =
        FlowKey { src: 0x0a00_0001, dst: 0x0808_0808, sport: 5_000, dport: 53, zone: 3, proto: 17 };

    #[test]
    fn an_answer_comes_back_to_the_sender() {
        let new_key = FlowKey { src: 0xcb00_7114, sport: 30_001, ..KEY };
        let (forward, reverse) = flows(KEY, new_key);
        assert_eq!((forward.key(), forward.new_key()), (KEY, new_key));
        assert_eq!((reverse.key(), reverse.new_key()), (new_key.reversed(), KEY.reversed()));
        assert_eq!((forward.flags, reverse.flags), (0, flags::REVERSE));
        assert_eq!((forward.state, reverse.state), (State::UdpOneway, State::UdpOneway));
    }

    /// RFC 4787 REQ-9 a: hairpinned packets come from the outside endpoint of their sender.
    #[test]
    fn rfc4787_req9a_a_hairpin_exchanges_both_ends_in_one_conn() {
        let key = FlowKey { dst: 0xcb00_7114, dport: 40_000, ..KEY };
        let new_key =
            FlowKey { src: 0xcb00_7114, sport: 30_001, dst: 0x0a00_0002, dport: 6_000, ..key };
        let (forward, reverse) = flows(key, new_key);
        assert_eq!((reverse.src, reverse.dst), (0x0a00_0002, 0xcb00_7114));
        assert_eq!((reverse.new_src, reverse.new_sport), (0xcb00_7114, 40_000));
        assert_eq!((forward.new_dst, forward.new_dport), (0x0a00_0002, 6_000));
    }

    #[test]
    fn what_is_not_translated_has_no_differences() {
        let (forward, reverse) = flows(KEY, KEY);
        // 0 and 0xffff are the same number in one's complement.
        for delta in [forward.l3_delta, forward.l4_delta, reverse.l3_delta, reverse.l4_delta] {
            assert_eq!(delta % 0xffff, 0);
        }
    }
}
