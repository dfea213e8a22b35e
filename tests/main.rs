//! End-to-end tests: real programs talk through a real `dpnatd` between network namespaces.
//!
//! The header of each file says what it proves. Nearly all of it needs root; without, each test says
//! aloud that it is skipped.
#![forbid(unsafe_code)]

mod common;

mod client_address;
mod client_address_families;
mod client_address_udp;
mod closing;
mod command_line;
mod control;
mod drop_in;
mod errors;
mod families;
mod fragments;
mod frames;
mod health;
mod ipv6;
mod kni;
mod lab;
mod lifecycle;
mod nat;
mod nat_forwards;
mod nat_judges;
mod nat_limits;
mod nat_rules;
mod nat_workers;
mod neighbours;
mod proxy_protocol;
mod repository;
mod reuse;
mod samples;
mod schedulers;
mod toa;
mod traffic;
mod tutorial;
mod vlans;
