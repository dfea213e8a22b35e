//! The commands: each asks the daemon and prints what it answers.

mod compat;
mod configuration;
mod connections;
mod daemon;
mod explain;
mod forwarding;
mod health;
mod import;
mod nat;
mod network;
mod services;
mod statistics;

use crate::cli::Command;
use crate::program::Build;
use crate::session::{Outcome, Session};

/// Runs a command.
pub(crate) fn run(session: &mut Session<'_>, build: Build, command: &Command) -> Outcome {
    match command {
        Command::Status => daemon::status(session),
        Command::Address(verb) => network::address(session, verb),
        Command::Route(verb) => network::route(session, verb),
        Command::Neighbour(verb) => network::neighbour(session, verb),
        Command::Link(verb) => network::link(session, verb),
        Command::Service(verb) => services::service(session, verb),
        Command::Server(verb) => services::server(session, verb),
        Command::Lip(verb) => services::lip(session, verb),
        Command::Health(verb) => health::health(session, verb),
        Command::Snat(verb) => nat::snat(session, verb),
        Command::Dnat(verb) => nat::dnat(session, verb),
        Command::Forwarding(verb) => forwarding::forwarding(session, verb),
        Command::Conn(verb) => connections::conn(session, verb),
        Command::Stats(args) => statistics::stats(session, args),
        Command::Counters(args) => statistics::counters(session, args),
        Command::Worker => daemon::worker(session),
        Command::Apply(args) => configuration::apply(session, args),
        Command::Diff(args) => configuration::diff(session, args),
        Command::Export(args) => configuration::export(session, args.output.as_deref()),
        Command::Config(verb) => configuration::config(session, *verb),
        Command::Import(verb) => import::import(session, verb),
        Command::Explain(args) => explain::explain(session, args),
        Command::Log(verb) => daemon::log(session, *verb),
        Command::Compat => compat::compat(session),
        Command::Version => daemon::version(session, build),
        Command::Completion(args) => daemon::completion(session, args),
    }
}
