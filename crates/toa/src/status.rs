//! What is attached.

use std::path::Path;

use aya::maps::MapData;
use ipnet::IpNet;
use serde::Serialize;

use crate::counters::{self, Counter};
use crate::error::ToaError;
use crate::kernel::{Hook, believed};
use crate::pins::Look;
use crate::program::{Output, columns};

#[derive(Debug, Serialize)]
struct Status {
    running: bool,
    hooks: Vec<&'static str>,
    balancers: Vec<IpNet>,
    counters: std::collections::BTreeMap<&'static str, u64>,
}

/// Prints it.
pub(crate) fn status(pins: &Path, output: &mut Output<'_>) -> Result<(), ToaError> {
    let look = Look::at(pins)?;
    let balancers = believed(&look.balancers)?;
    let counters = counters::read(MapData::from_pin(&look.counters)?)?;
    let status = Status {
        running: look.running,
        hooks: look.hooks.iter().copied().map(Hook::name).collect(),
        balancers,
        counters: counters.iter().map(|(counter, value)| (counter.name(), *value)).collect(),
    };
    let text = text(&status, &counters);
    output.print(&status, &text)
}

fn text(status: &Status, counters: &[(Counter, u64)]) -> String {
    let agent = match status.running {
        true => "runs",
        false => "has ended without detaching; dptoa run goes on where it was",
    };
    let balancers: Vec<_> = status.balancers.iter().map(ToString::to_string).collect();
    let head = [
        ["dptoa".to_owned(), agent.to_owned()],
        ["attached".to_owned(), status.hooks.join(", ")],
        ["believes".to_owned(), balancers.join(", ")],
    ];
    let rows = counters.iter().map(|(counter, value)| {
        [counter.name().to_owned(), value.to_string(), counter.help().to_owned()]
    });
    format!("{}\n{}", columns(&head), columns(&rows.collect::<Vec<_>>()))
}
