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
mod endpoints;
pub mod explain;
pub mod finish;
mod forward;
mod fragment;
pub mod gateway;
mod gateway_counts;
mod gateway_wan;
mod gather;
pub mod lane;
mod lips;
mod local6;
pub mod lookup;
pub(crate) mod nat_log;
pub mod open;
mod oversized;
pub mod parse;
mod parse6;
mod proxy;
mod proxy_send;
mod proxy_theirs;
mod punt;
pub mod receive;
mod reply;
pub mod rewrite;
pub mod steer;
pub mod track;
pub mod transmit;
mod vlan;

use types::{Io, Now, Packet};

use crate::worker::Core;
use burst::Burst;
use lane::Lane;

pub(crate) use forward::answer_syns;
pub(crate) use proxy_send::{adopt, state_of, tend_headers};
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
    if core.wide.has_arrived() {
        in_wide_burst(core, |core, burst| {
            parse6::parse(core, burst, now);
            local6::admit(core, burst, now);
            steer::steer(core, burst);
        });
    }
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
    count + process_waited_wide(core, io, now)
}

/// The same of IPv6's.
fn process_waited_wide<I: Io>(core: &mut Core<I::Packet>, io: &mut I, now: Now) -> usize {
    let mut count = 0;
    in_wide_burst(core, |core, burst| {
        count = fragment::take_waited(core, burst);
        if count > 0 {
            local6::admit(core, burst, now);
            steer::steer(core, burst);
            finish_lane(core, io, burst, now);
        }
    });
    count
}

/// Takes packets that this worker owns through the stages from `lookup` on, and those of the other lane that came
/// with them.
pub fn process_steered<I: Io>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet>,
    now: Now,
) {
    finish_lane(core, io, burst, now);
    process_wide(core, io, now);
}

/// Takes the packets of the wide burst, if there are any, through the stages from `lookup` on.
#[inline]
pub fn process_wide<I: Io>(core: &mut Core<I::Packet>, io: &mut I, now: Now) {
    if core.wide.has_arrived() {
        in_wide_burst(core, |core, burst| finish_lane(core, io, burst, now));
    }
}

/// Takes packets with an IPv6 side that other workers have handed over through the stages from `lookup` on. Returns
/// how many there were.
pub fn process_wide_handed<I: Io>(core: &mut Core<I::Packet>, io: &mut I, now: Now) -> usize {
    let mut count = 0;
    in_wide_burst(core, |core, burst| {
        count = receive::receive_handed(core, burst);
        if count > 0 {
            finish_lane(core, io, burst, now);
        }
    });
    count
}

/// Does something with the wide burst, which is the core's between stages.
fn in_wide_burst<P: Packet>(
    core: &mut Core<P>,
    stages: impl FnOnce(&mut Core<P>, &mut Burst<P, u128>),
) {
    let Some(mut burst) = core.wide.burst.take() else { return };
    stages(core, &mut burst);
    core.wide.burst = Some(burst);
}

/// Takes packets of one lane through the stages from `lookup` on.
fn finish_lane<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet, A>,
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
