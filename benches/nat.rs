//! A NAT gateway under test: one rule of `snat` for all clients, with WAN IPs where services have LIPs.

use ::nat::gateway::{Forwarding, GatewayConfig, Settings, Topology, Wan, WanSource};
use ::nat::rules::{Action, Match, Rule};
use ::nat::state::NatConfig;
use ::nat::{Gateway, NatState};
use flow::TimeoutSet;
use pool::wan::AddressPorts;
use types::{ClassSet, EthPortId, Slot};

use crate::bed::{self, BedConfig, LAN};
use crate::traffic::Form;

/// Class of the timeouts of its conns.
pub const TIMEOUT_CLASS: u8 = 1;
const RULE: Slot = Slot::new(0, 1);
/// Inside addresses for each WAN IP. They draw theirs: some WAN IPs get twice as many as others.
const HOSTS_PER_WAN: u32 = 512;

/// Rules of a gateway that has many.
const RULES: u32 = 4_096;

/// What another rule is for: a network of its own, some of them by one protocol or towards some ports only.
fn of_others(n: u32) -> Match {
    let network = u32::from_be_bytes([172, 16, 0, 0]) + n * 256;
    Match {
        sources: vec![network..=network + 255],
        protocols: if n.is_multiple_of(2) { vec![6] } else { Vec::new() },
        destination_ports: if n.is_multiple_of(3) { vec![80..=90, 443..=443] } else { Vec::new() },
        ..Match::default()
    }
}

/// How many WAN IPs there are.
pub fn wans(form: Form) -> u32 {
    match form {
        Form::FullNat | Form::FullNat66 | Form::Nat64 => 0,
        // Room for the conns that are closed besides.
        Form::Snat | Form::SnatRules => 128,
        Form::Grid { hosts } => hosts.div_ceil(HOSTS_PER_WAN).max(2),
    }
}

/// What the snapshot has of it.
pub fn gateway(form: Form) -> Option<Gateway> {
    let clients = form.clients()?;
    let wan = |place| Wan {
        place,
        address: bed::wan_ip(place.into()),
        weight: 1,
        draining: false,
        withheld: false,
    };
    let wans = (0..wans(form) as u16).map(wan).collect();
    let settings = Settings {
        wans: WanSource::Addresses(wans),
        // Ports come back as conns go, or a minute of churn would want all there are.
        rest_ms: 0,
        timeout_class: TIMEOUT_CLASS,
        ..Settings::default()
    };
    let matching =
        Match { sources: vec![clients], out_dev: Some(EthPortId(LAN as u16)), ..Match::default() };
    let rule = |slot, matching| {
        let rule = Rule { slot, matching, except: Match::default(), action: Action::Translate };
        (rule, settings.clone())
    };
    let others = if form == Form::SnatRules { RULES - 1 } else { 0 };
    let mut rules: Vec<_> = (1..=others).map(|n| rule(Slot::new(n, 1), of_others(n))).collect();
    rules.push(rule(RULE, matching));
    let config = GatewayConfig {
        rules,
        forwards: Vec::new(),
        servers: Vec::new(),
        forwarding: Forwarding { rules: Vec::new(), policy: Action::Accept },
        topology: Topology::default(),
    };
    Some(Gateway::new(config).expect("not too many rules"))
}

/// The size of the state of its only worker.
pub fn config(bed: &BedConfig, classes: ClassSet) -> NatConfig {
    let clients = bed.form.clients().map_or(0, |clients| clients.end() - clients.start() + 1);
    NatConfig {
        classes,
        max_addresses: wans(bed.form) as u16,
        max_mappings: bed.max_connections,
        max_peers: 0,
        max_subscribers: clients,
        max_leases: 1,
        max_resting: 1,
        max_rules: 1,
        max_held_syns: 1,
        seed: bed::SEED,
        worker: 0,
    }
}

/// What the worker has taken: nothing yet.
pub fn state(config: &NatConfig) -> Box<NatState> {
    let mut nat = NatState::new(config).expect("memory for mappings");
    for place in 0..config.max_addresses {
        let ports = Box::new(AddressPorts::new(config.classes));
        assert!(nat.wan_mut().add(place, ports).is_ok());
    }
    assert!(nat.begin(RULE));
    Box::new(nat)
}

/// The timeouts of a gateway, but for conns that are closed.
pub fn timeouts(bed: &BedConfig) -> TimeoutSet {
    TimeoutSet { tcp_closed_ms: bed.timeouts.tcp_closed_ms, ..TimeoutSet::GATEWAY }
}
