//! The packet path: one file a stage, in the order in which a burst passes them.
//!
//! Each stage is a plain function over the whole burst and the worker's own state. A packet stays live
//! until a stage ends it with a verdict, which `finish` alone counts.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing
    )
)]

pub mod admit;
pub mod burst;
pub mod egress;
pub mod explain;
pub mod finish;
mod forward;
mod fragment;
pub mod gateway;
mod gateway_counts;
mod gather;
mod lips;
mod local6;
pub mod lookup;
mod nat_log;
pub mod open;
mod oversized;
pub mod parse;
mod punt;
pub mod receive;
mod reply;
pub mod rewrite;
pub mod steer;
pub mod track;
pub mod transmit;
mod vlan;

use types::{Io, Now};

use crate::worker::Core;
use burst::Burst;

pub(crate) use forward::answer_syns;
pub(crate) use punt::send_for_kernel;
pub(crate) use reply::ReplyLimit;
pub(crate) use track::{close, fold_counts};

/// The stages in order.
pub const STAGES: [&str; 11] = [
    "receive", "parse", "admit", "steer", "lookup", "open", "track", "rewrite", "egress",
    "transmit", "finish",
];

/// Takes received packets through all stages behind `receive`.
pub fn process<I: Io>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet>,
    now: Now,
) {
    parse::parse(core, burst, now);
    process_parsed(core, io, burst, now);
}

/// Takes packets that have been parsed through the stages from `admit` on.
fn process_parsed<I: Io>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet>,
    now: Now,
) {
    admit::admit(core, burst, now);
    steer::steer(core, burst);
    process_steered(core, io, burst, now);
}

/// Takes fragments whose first one has come, and that waited for it, through the stages from `admit` on.
/// Returns how many there were.
pub fn process_waited<I: Io>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet>,
    now: Now,
) -> usize {
    let count = fragment::take_waited(core, burst);
    if count > 0 {
        process_parsed(core, io, burst, now);
    }
    count
}

/// Takes packets that this worker owns through the stages from `lookup` on.
pub fn process_steered<I: Io>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet>,
    now: Now,
) {
    lookup::lookup(core, burst, now);
    open::open(core, io, burst, now);
    track::track(core, io, burst, now);
    rewrite::rewrite(core, burst, now);
    egress::egress(core, io, burst, now);
    transmit::transmit(core, io);
    finish::finish(core, burst);
}
