//! Path tests: real workers on interfaces in memory, told by packets and judged by the ledger.
//!
//! Begin with `one_connection.rs`. `bed/` is what the tests stand on; each other file is a subject.

mod bed;
mod closing;
mod conn;
mod control;
mod expiry;
mod fragments;
mod gateway;
mod gateway_changes;
mod gateway_forwards;
mod gateway_inbound;
mod gateway_moves;
mod gateway_records;
mod gateway_refusals;
mod gateway_site;
mod gateway_workers;
mod icmp;
mod ipv6;
mod kernel;
mod limits;
mod malformed;
mod nat_log;
mod neighbours;
mod numbers;
mod one_connection;
mod oversized;
mod proxy;
mod proxy_hostile;
mod proxy_theirs;
mod proxy_udp;
mod records;
mod reuse;
mod scheduling;
mod service_nat;
mod silent;
mod toa;
mod udp;
mod verdicts;
mod vlans;
mod wide;
mod wide_clients;
mod wide_errors;
mod wide_sizes;
mod wide_workers;
mod workers;

/// The order is part of the design: each stage relies on what those before it have found out.
#[test]
fn the_stages_are_these_in_this_order() {
    let stages = [
        "receive", "parse", "admit", "steer", "lookup", "open", "track", "rewrite", "egress",
        "transmit", "finish",
    ];
    assert_eq!(dataplane::path::STAGES, stages);
}
