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

/// How many WAN IPs there are.
pub fn wans(form: Form) -> u32 {
    match form {
        Form::FullNat => 0,
        // Room for the conns that are closed besides.
        Form::Snat => 128,
        Form::Grid { hosts } => hosts.div_ceil(HOSTS_PER_WAN).max(2),
    }
}

/// What the snapshot has of it.
pub fn gateway(form: Form) -> Option<Gateway> {
    let clients = form.clients()?;
    let wan = |place| Wan { place, address: bed::wan_ip(place.into()), weight: 1, draining: false };
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
    let rule = Rule { slot: RULE, matching, except: Match::default(), action: Action::Translate };
    let config = GatewayConfig {
        rules: vec![(rule, settings)],
        forwards: Vec::new(),
        servers: Vec::new(),
        forwarding: Forwarding { rules: Vec::new(), policy: Action::Accept },
        topology: Topology::default(),
    };
    Some(Gateway::new(config).expect("one rule"))
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
