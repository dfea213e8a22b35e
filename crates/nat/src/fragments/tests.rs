use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const FIRST: First = First { kind: Kind::Udp, proto: 17, sport: 7, dport: 8, icmp_type: 0 };

fn key(src: u128, ident: u32) -> PacketKey {
    PacketKey { src, dst: 2, ident, proto: 17, zone: 0 }
}

fn tracker() -> Fragments<u32> {
    Fragments::new([1, 2])
}

fn at(ms: u32) -> Now {
    Now::from_ms(ms.into())
}

/// A piece of units of 8 bytes, from and before; `last` if the packet ends with it.
fn track(
    t: &mut Fragments<u32>,
    key: &PacketKey,
    from: u16,
    to: u16,
    last: bool,
    now: Now,
) -> Step {
    let piece = Piece { ident: key.ident, offset: from * 8, more: !last };
    let first = (from == 0).then_some(FIRST);
    t.track(key, piece, usize::from(to - from) * 8, first, now)
}

fn wait(t: &mut Fragments<u32>, key: &PacketKey, range: (u16, u16), item: u32, now: Now) {
    match track(t, key, range.0, range.1, false, now) {
        Step::Wait(waiting) => assert_eq!(t.keep(waiting, item, now), None),
        other => panic!("{other:?}"),
    }
}

fn taken(t: &mut Fragments<u32>) -> Vec<(u32, End)> {
    std::iter::from_fn(|| t.take()).collect()
}

const LOST: End = End::Drop(Verdict::NoFirstFragment);
const BAD: Step = Step::Drop(Verdict::BadFragment);

#[test]
fn rfc4787_req14_in_order_each_has_the_first_ones_ports() {
    let mut t = tracker();
    let key = key(1, 1);
    assert_eq!(track(&mut t, &key, 0, 10, false, at(0)), Step::Pass(FIRST));
    assert_eq!(track(&mut t, &key, 10, 20, false, at(1)), Step::Pass(FIRST));
    assert_eq!(track(&mut t, &key, 20, 21, true, at(2)), Step::Pass(FIRST));
    // It is whole, and its name may be another packet's.
    assert!(matches!(track(&mut t, &key, 10, 20, false, at(3)), Step::Wait(_)));
}

#[test]
fn rfc4787_req14_out_of_order_they_wait_for_the_first() {
    let mut t = tracker();
    let key = key(1, 1);
    wait(&mut t, &key, (20, 30), 1, at(0));
    wait(&mut t, &key, (10, 20), 2, at(0));
    assert_eq!((t.len(), t.has_ended(), t.take()), (2, false, None));
    assert_eq!(track(&mut t, &key, 0, 10, false, at(1)), Step::Pass(FIRST));
    assert!(t.has_ended());
    let mut out = taken(&mut t);
    out.sort_unstable_by_key(|(item, _)| *item);
    assert_eq!(out, [(1, End::Pass(FIRST)), (2, End::Pass(FIRST))]);
    assert!(t.is_empty());
    assert_eq!(track(&mut t, &key, 30, 31, true, at(1)), Step::Pass(FIRST));
}

#[test]
fn rfc5722_overlaps_end_the_packet_and_doubles_only_themselves() {
    for overlap in [(15, 25), (0, 30), (10, 30)] {
        let mut t = tracker();
        let key = key(1, 1);
        track(&mut t, &key, 0, 10, false, at(0));
        track(&mut t, &key, 10, 20, false, at(0));
        assert_eq!(track(&mut t, &key, overlap.0, overlap.1, false, at(0)), BAD, "{overlap:?}");
        assert_eq!(track(&mut t, &key, 20, 30, true, at(0)), BAD, "nothing more of it");
    }
    let mut t = tracker();
    let key = key(1, 1);
    track(&mut t, &key, 0, 10, false, at(0));
    assert_eq!(track(&mut t, &key, 0, 10, false, at(0)), BAD);
    assert_eq!(track(&mut t, &key, 10, 20, false, at(0)), Step::Pass(FIRST));
    for double in [(2, 5), (5, 15), (9, 11)] {
        assert_eq!(track(&mut t, &key, double.0, double.1, false, at(0)), BAD);
    }
    assert_eq!(track(&mut t, &key, 20, 30, true, at(0)), Step::Pass(FIRST));
    // What waits ends with its packet.
    wait(&mut t, &key, (10, 20), 7, at(1));
    assert_eq!(track(&mut t, &key, 15, 25, false, at(1)), BAD);
    assert_eq!(taken(&mut t), [(7, End::Drop(Verdict::BadFragment))]);
}

#[test]
fn a_packet_has_one_end() {
    for (first, second) in
        [((20, true), (30, true)), ((20, true), (30, false)), ((30, false), (20, true))]
    {
        let mut t = tracker();
        let key = key(1, 1);
        let step = track(&mut t, &key, first.0 - 5, first.0, first.1, at(0));
        assert!(matches!(step, Step::Wait(_)));
        let step = track(&mut t, &key, second.0 - 5, second.0, second.1, at(0));
        assert_eq!(step, BAD, "{first:?} {second:?}");
    }
}

#[test]
fn rfc6146_3_4_memory_and_time_are_bounded() {
    let mut t = tracker();
    wait(&mut t, &key(1, 1), (10, 20), 1, at(0));
    wait(&mut t, &key(2, 1), (10, 20), 2, at(1_000));
    // All places are looked at in so many calls.
    let expire = |t: &mut Fragments<u32>, ms| {
        (0..WAITING_MAX / LOOKED_AT).for_each(|_| t.expire(at(ms)));
        taken(t)
    };
    assert_eq!(expire(&mut t, TIMEOUT_MS), []);
    assert_eq!(expire(&mut t, TIMEOUT_MS + 1), [(1, LOST)]);
    // A first one that comes too late is another packet's.
    assert_eq!(track(&mut t, &key(2, 1), 0, 10, false, at(3_001)), Step::Pass(FIRST));
    assert_eq!(taken(&mut t), [(2, LOST)]);

    // Each host sends one; places are fewer, and sets have eight.
    let (mut kept, mut lost) = (0, 0);
    for n in 0..2_000 {
        let now = at(10_000 + n);
        match track(&mut t, &key(1 << 40 | u128::from(n), 1), 10, 20, false, now) {
            Step::Wait(waiting) => {
                lost += usize::from(t.keep(waiting, n, now).is_some());
                kept += 1;
            }
            other => panic!("{other:?}"),
        }
        lost += taken(&mut t).len();
        assert!(t.len() <= WAITING_MAX);
        assert_eq!(kept, t.len() + lost);
    }
    assert!(t.len() > WAITING_MAX * 9 / 10, "{}", t.len());
}

#[test]
fn one_packet_keeps_no_more_than_its_share_waiting() {
    let mut t = tracker();
    let key = key(1, 1);
    let mut kept = 0;
    for n in 1..200 {
        // All touch, so that they are one range.
        match track(&mut t, &key, n, n + 1, false, at(0)) {
            Step::Wait(waiting) => kept += usize::from(t.keep(waiting, n.into(), at(0)).is_none()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((kept, t.len()), (WAITING_OF_SET.into(), WAITING_OF_SET.into()));
}

#[test]
fn scattered_pieces_are_not_remembered_without_end() {
    let mut t = tracker();
    let key = key(1, 1);
    track(&mut t, &key, 0, 1, false, at(0));
    let steps: Vec<_> =
        (1..20).map(|n| track(&mut t, &key, n * 10, n * 10 + 1, false, at(0))).collect();
    assert_eq!(steps.iter().filter(|step| **step == Step::Pass(FIRST)).count(), RANGES - 1);
    assert_eq!(steps.last(), Some(&Step::Drop(Verdict::NoFirstFragment)));
    assert_eq!(track(&mut t, &key, 1, 2, false, at(0)), Step::Pass(FIRST), "what touches joins");
}

/// RFC 4787 REQ-14 a: who sends first fragments without end pushes out his own.
#[test]
fn rfc4787_req14a_a_flood_of_first_fragments_harms_nobody_else() {
    let mut t = tracker();
    let mut harmed = 0;
    for friend in 0..200_u128 {
        track(&mut t, &key(1_000 + friend, 1), 0, 10, false, at(0));
    }
    for ident in 0..100_000 {
        track(&mut t, &key(7, ident), 0, 10, false, at(1));
    }
    for friend in 0..200_u128 {
        let step = track(&mut t, &key(1_000 + friend, 1), 10, 20, true, at(2));
        harmed += usize::from(step != Step::Pass(FIRST));
    }
    // Those that share the flooder's set of 256.
    assert!(harmed <= 5, "{harmed} of 200");
    let mut other = Fragments::<u32>::new([9, 9]);
    let sets = |t: &Fragments<u32>| (0..64).map(|src| t.set_of(&key(src, 1))).collect::<Vec<_>>();
    assert_ne!(sets(&t), sets(&other), "nobody can choose whose set he shares");
    assert_eq!(other.take(), None);
}

/// Nor do pieces without a first one: what waits for others keeps its place.
#[test]
fn rfc4787_req14a_a_flood_of_later_fragments_harms_nobody_else() {
    let mut t = tracker();
    let flooder = t.set_of(&key(7, 0));
    let friend = (1_000..).map(|src| key(src, 1)).find(|key| t.set_of(key) != flooder).unwrap();
    wait(&mut t, &friend, (10, 20), 77, at(0));
    for ident in 0..10_000 {
        if let Step::Wait(waiting) = track(&mut t, &key(7, ident), 10, 20, false, at(1)) {
            let _ = t.keep(waiting, ident + 100, at(1));
        }
        assert!(taken(&mut t).iter().all(|(item, _)| *item != 77));
    }
    assert_eq!(track(&mut t, &friend, 0, 10, false, at(2)), Step::Pass(FIRST));
    assert_eq!(taken(&mut t), [(77, End::Pass(FIRST))]);
}

/// A model that remembers everything, for packets that are well formed.
#[derive(Default)]
struct Model {
    seen: HashMap<u32, Vec<(u16, u16)>>,
    first: HashMap<u32, bool>,
    waiting: HashMap<u32, Vec<u32>>,
}

proptest! {
    /// Any order, several packets at once: each piece passes once, with its packet's first one or after it.
    #[test]
    fn every_piece_of_a_whole_packet_passes_once(
        order in Just((0..40_u32).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        // Four packets of ten pieces.
        let mut t = tracker();
        let (mut passed, mut model) = (Vec::new(), Model::default());
        for item in order {
            let (ident, n) = (item % 4, (item / 4) as u16);
            let key = key(u128::from(ident), ident);
            let range = (n * 3, n * 3 + 3);
            model.seen.entry(ident).or_default().push(range);
            if n == 0 {
                model.first.insert(ident, true);
            }
            match track(&mut t, &key, range.0, range.1, n == 9, at(0)) {
                Step::Pass(first) => {
                    prop_assert!(model.first.contains_key(&ident));
                    prop_assert_eq!(first, FIRST);
                    passed.push(item);
                }
                Step::Wait(waiting) => {
                    prop_assert!(!model.first.contains_key(&ident));
                    model.waiting.entry(ident).or_default().push(item);
                    prop_assert_eq!(t.keep(waiting, item, at(0)), None);
                }
                Step::Drop(verdict) => prop_assert!(false, "{verdict} of {item}"),
            }
            let out = taken(&mut t);
            if n == 0 {
                let expected = model.waiting.remove(&ident).unwrap_or_default();
                prop_assert_eq!(out.len(), expected.len());
            } else {
                prop_assert!(out.is_empty());
            }
            for (item, end) in out {
                prop_assert_eq!(end, End::Pass(FIRST));
                passed.push(item);
            }
        }
        passed.sort_unstable();
        prop_assert_eq!(passed, (0..40).collect::<Vec<_>>());
        prop_assert!(t.is_empty() && t.packets.iter().all(|entry| !entry.used));
    }

    /// Whatever comes: what passes never overlaps, and every piece that is kept is given back once.
    #[test]
    fn nothing_that_passes_overlaps(
        pieces in proptest::collection::vec((0u32..3, 0u16..40, 1u16..12, any::<bool>(), 1u32..300), 1..200),
    ) {
        let mut t = tracker();
        let mut passed: HashMap<(u32, u32), Vec<(u16, u16)>> = HashMap::new();
        let (mut kept, mut now) = (HashMap::new(), 0);
        for (item, (ident, from, len, last, step)) in (0_u32..).zip(pieces) {
            now += step;
            let range = (from, from + len);
            let key = key(ident.into(), ident);
            // A name that is free or has timed out is another packet's from now on.
            let began = t.find(&key, at(now)).map_or(now, |at| t.packets[usize::from(at)].since_ms);
            let mut ends = Vec::new();
            match track(&mut t, &key, range.0, range.1, last, at(now)) {
                Step::Pass(_) => ends.push(range),
                Step::Wait(waiting) => {
                    kept.insert(item, range);
                    if let Some(lost) = t.keep(waiting, item, at(now)) {
                        prop_assert!(kept.remove(&lost).is_some());
                    }
                }
                Step::Drop(_) => {}
            }
            t.expire(at(now));
            for (item, end) in taken(&mut t) {
                let piece = kept.remove(&item);
                prop_assert!(piece.is_some(), "{item} is given back twice");
                if matches!(end, End::Pass(_)) {
                    ends.extend(piece);
                }
            }
            prop_assert_eq!(t.len(), kept.len());
            let ranges = passed.entry((ident, began)).or_default();
            for range in ends {
                prop_assert!(ranges.iter().all(|seen| range.0 >= seen.1 || seen.0 >= range.1));
                ranges.push(range);
            }
        }
    }
}
