//! A gateway's conns move to one of another number of workers, and back: whatever their ports lead to there, every
//! packet of both directions is translated as before, and each inside endpoint still has one mapping.

use dataplane::worker::link::{Command, Import, Redirects, Refused};
use flow::{LeaseKind, Local, Record};
use nat::gateway::{Filtering, MappingKind, SourceAddress};
use testkit::ip;
use types::{Endpoint, FlowKey, Proto};

use crate::bed::{
    FORWARD, GATEWAY, GatewayPlan, RULE, Setup, TIMEOUT_CLASS, Testbed, WANS, inside_endpoint,
    station,
};
use crate::gateway_site::{End, FORWARDED, HOSTS, SERVED, Site, UDP, ends, host, remote};

/// Before and after.
const MOVES: [(u16, u16); 7] = [(1, 2), (1, 3), (2, 1), (3, 1), (2, 3), (3, 2), (5, 5)];

fn plan() -> GatewayPlan {
    GatewayPlan {
        forward: Some((Proto::Udp, FORWARDED..=FORWARDED, inside_endpoint(SERVED))),
        source: SourceAddress::Keep,
        ..GatewayPlan::default()
    }
}

fn import(bed: &mut Testbed, worker: u16, record: &Record) -> Result<Redirects, Refused> {
    let of_forward = record.forward.destination == Endpoint::v4(ip(WANS[0]), FORWARDED);
    let service = if of_forward { FORWARD } else { RULE };
    let local = Local { service, timeout_class: TIMEOUT_CLASS, ..Local::default() };
    let import = Import { record: record.clone(), local, result: Err(Refused::Pending) };
    match bed.command(worker.into(), Command::Import(Box::new(import))) {
        Command::Import(import) => import.result,
        other => panic!("{other:?}"),
    }
}

/// Imports a record, in halves where it has mappings of two workers, and gives the redirects that it asks for.
fn move_in(bed: &mut Testbed, record: &Record) {
    let home = bed.snapshot.home(record).unwrap();
    let redirects = match import(bed, home.worker.0, record) {
        Err(Refused::PortOf(second)) => {
            assert_ne!(second, home.worker.0);
            let halves = nat::translate::halves(record).unwrap();
            halves.iter().for_each(|half| move_in(bed, half));
            return;
        }
        imported => imported.unwrap_or_else(|refused| panic!("{refused}: {record:?}")),
    };
    for redirect in redirects.iter() {
        let at = redirect.at.0.into();
        match bed.command(at, Command::Redirect(Box::new(redirect))) {
            Command::Redirect(redirect) => assert_eq!(redirect.result, Ok(())),
            other => panic!("{other:?}"),
        }
    }
}

/// All of one gateway's conns, in one of so many workers.
fn moved(old: &Site, workers: u16, plan: &GatewayPlan) -> Site {
    let mut records = old.bed.records();
    // A conn that was not answered needs the mapping that others hold.
    records.sort_by_key(|record| record.lease == LeaseKind::Unanswered);
    let setup = Setup { workers, seed: 77, start_ms: 5, ..Setup::default() };
    let mut new = Site::new(setup, plan);
    for record in &records {
        let text = serde_json::to_string(record).unwrap();
        move_in(&mut new.bed, &serde_json::from_str(&text).unwrap());
    }
    new
}

/// A conn as its two ends see it: the opener, whom it speaks to, what that one sees and who it is.
#[derive(Clone, Copy, Debug)]
struct Seen {
    opener: End,
    to: End,
    from: End,
    at: End,
}

impl Seen {
    fn open(site: &mut Site, opener: End, to: End) -> Self {
        let (from, at) = ends(&site.udp(opener, to).key());
        Self { opener, to, from, at }
    }

    /// Both directions, as they were.
    #[track_caller]
    fn goes_on(&self, site: &mut Site, what: &str) {
        let there = ends(&site.udp(self.opener, self.to).key());
        assert_eq!(there, (self.from, self.at), "{what}: {self:?}");
        let back = ends(&site.udp(self.at, self.from).key());
        assert_eq!(back, (self.to, self.opener), "{what}: {self:?}");
    }
}

/// Out to some remotes by one endpoint each, in to them, from host to host, and by a forwarded port.
fn conns(site: &mut Site) -> Vec<Seen> {
    let mut all = Vec::new();
    for n in 0..HOSTS {
        let inside = (host(n), 5_000);
        all.extend((0..3).map(|to| Seen::open(site, inside, (remote(to), 53))));
        let outside = all.last().unwrap().from;
        let stranger = Seen::open(site, (remote(9), 1_000 + n as u16), outside);
        if n % 2 == 0 {
            stranger.goes_on(site, "before");
        }
        all.push(stranger);
    }
    for n in 0..HOSTS {
        let other = all[(n + 1) % HOSTS * 4].from;
        let met = Seen::open(site, (host(n), 5_000), other);
        met.goes_on(site, "before");
        all.push(met);
    }
    let served = Seen::open(site, (remote(20), 40_000), (ip(WANS[0]), FORWARDED));
    served.goes_on(site, "before");
    all.push(served);
    all
}

fn redirects(bed: &Testbed) -> u32 {
    bed.workers.iter().map(|worker| worker.core.table.redirects()).sum()
}

/// Nothing is left when nobody sends any more.
#[track_caller]
fn ends_whole(site: &mut Site) {
    site.bed.live_ms(9_000_000, 30_000);
    assert!(site.bed.records().is_empty());
    assert_eq!((site.bed.mappings(), site.bed.wan_ports(), redirects(&site.bed)), (0, 0, 0));
    let sessions = [RULE, FORWARD].map(|slot| site.bed.counts_of(slot).sessions);
    assert_eq!(sessions, [0, 0]);
}

#[test]
fn conns_and_mappings_move_to_other_numbers_of_workers() {
    for (workers, others) in MOVES {
        let mut old = Site::of(workers, &plan());
        let before = conns(&mut old);
        let mut new = moved(&old, others, &plan());
        let what = format!("{workers} to {others}");
        assert_eq!(new.mappings(), old.mappings(), "{what}");
        assert_eq!(redirects(&new.bed) == 0, others == 1, "{what}");
        for _ in 0..2 {
            before.iter().for_each(|seen| seen.goes_on(&mut new, &what));
        }
        assert_eq!(new.mappings(), old.mappings(), "{what}");
        // And once more, from there.
        let mut again = moved(&new, workers, &plan());
        before.iter().for_each(|seen| seen.goes_on(&mut again, &what));
        assert_eq!(again.mappings(), old.mappings(), "{what} and back");
        ends_whole(&mut new);
        ends_whole(&mut again);
    }
}

/// What an inside endpoint opens later has the mapping that it had before, wherever that is.
#[test]
fn later_conns_have_the_mapping_that_was_moved() {
    for (workers, others) in MOVES {
        let mut old = Site::of(workers, &plan());
        conns(&mut old);
        let mut new = moved(&old, others, &plan());
        let what = format!("{workers} to {others}");
        let known = old.mappings();
        for n in 0..HOSTS {
            let inside = (host(n), 5_000);
            let outside = known[&(UDP, inside)];
            for to in 30..33 {
                let seen = Seen::open(&mut new, inside, (remote(to), 99));
                assert_eq!(seen.from, outside, "{what}");
                seen.goes_on(&mut new, &what);
            }
            let stranger = Seen::open(&mut new, (remote(40), 77), outside);
            assert_eq!(stranger.at, inside, "{what}");
            stranger.goes_on(&mut new, &what);
            let other = known[&(UDP, (host((n + 2) % HOSTS), 5_000))];
            let met = Seen::open(&mut new, inside, other);
            assert_eq!(met.from, outside, "{what}");
            met.goes_on(&mut new, &what);
            // What the remote refuses is told to the host that sent it.
            let got = new.udp(inside, (remote(30), 99));
            let key =
                FlowKey { src: inside.0, sport: inside.1, dst: remote(30), dport: 99, ..got.key() };
            new.refuses(&got, &key);
        }
        assert_eq!(new.mappings(), known, "{what}");
        ends_whole(&mut new);
        // A mapping that has ended is followed by another one, where the endpoint belongs.
        new.learn_hosts();
        new.bed.learn(new.bed.wan, GATEWAY, station(GATEWAY));
        let seen = Seen::open(&mut new, (host(0), 5_000), (remote(1), 53));
        seen.goes_on(&mut new, &what);
        assert_eq!(new.mappings().len(), 1, "{what}");
    }
}

#[test]
fn ports_for_one_remote_each_and_protocols_without_ports_move_too() {
    let plan = plan().settings(|settings| {
        settings.mapping = MappingKind::AddressAndPortDependent;
        settings.filtering = Filtering::AddressAndPortDependent;
        settings.l4_ports = 2_000..=2_127;
    });
    for (workers, others) in MOVES {
        let mut old = Site::of(workers, &plan);
        let mut before = Vec::new();
        for n in 0..HOSTS {
            before
                .extend((0..4).map(|to| Seen::open(&mut old, (host(n), 5_000), (remote(to), 53))));
            let gre = old.by_host(host(n), remote(50 + n)).protocol(47).payload("gre");
            old.passes((old.bed.lan, gre));
        }
        let mut new = moved(&old, others, &plan);
        let what = format!("{workers} to {others}");
        before.iter().for_each(|seen| seen.goes_on(&mut new, &what));
        for n in 0..HOSTS {
            let gre = new.by_remote(remote(50 + n), ip(WANS[0])).protocol(47).payload("gre");
            assert_eq!(new.passes((new.bed.wan, gre)).ipv4().dst, host(n), "{what}");
        }
        // New ones take no port that an old one has towards the same remote.
        for n in 0..HOSTS {
            let seen = Seen::open(&mut new, (host(n), 5_001), (remote(0), 53));
            assert!(before.iter().all(|old| (old.from, old.to) != (seen.from, seen.to)), "{what}");
            seen.goes_on(&mut new, &what);
        }
        ends_whole(&mut new);
    }
}

/// A rule whose mapping is changed and changed back while conns are open: what comes to a port is meant for one.
#[test]
fn a_rules_mapping_may_change_while_conns_are_open() {
    for workers in [1, 2] {
        let narrow = |mapping| {
            plan().settings(|settings| {
                (settings.mapping, settings.l4_ports, settings.rest_ms) =
                    (mapping, 2_000..=2_031, 0);
            })
        };
        let kinds = [MappingKind::AddressAndPortDependent, MappingKind::EndpointIndependent];
        let mut site = Site::of(workers, &narrow(kinds[0]));
        let (mut open, mut own): (Vec<Seen>, Vec<MappingKind>) = (Vec::new(), Vec::new());
        for (round, kind) in (0..).zip(kinds.into_iter().cycle().take(6)) {
            site.bed.update(|snapshot| snapshot.gateway = Some(narrow(kind).gateway().into()));
            for n in 0..6 {
                let inside = (host(n % HOSTS), 5_000 + round);
                for to in 0..3 {
                    let packet = site.by_host(inside.0, remote(to)).udp(inside.1, 53);
                    for (_, sent) in site.all(site.bed.lan, packet.build()) {
                        let (from, at) = ends(&sent.key());
                        open.push(Seen { opener: inside, to: at, from, at });
                        own.push(kind);
                    }
                }
            }
            for seen in &open {
                seen.goes_on(&mut site, "while it changes");
            }
        }
        assert!(open.len() > 40, "{workers} workers: {} conns", open.len());
        for (a, kind) in open.iter().zip(&own) {
            for (b, others) in open.iter().zip(&own).filter(|(b, _)| b.from == a.from) {
                assert_eq!(kind, others, "{a:?} and {b:?}");
                let alike = a.opener == b.opener || a.to != b.to;
                let mapped = *kind == MappingKind::AddressAndPortDependent || a.opener == b.opener;
                assert!(alike && mapped, "{a:?} and {b:?}");
            }
        }
        ends_whole(&mut site);
    }
}
