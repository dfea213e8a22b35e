//! What this kernel can do, found out by trying: each program goes through the verifier, none is attached.

use std::path::Path;

use serde::Serialize;

use crate::error::ToaError;
use crate::kernel::{Cgroup, Hook, Kernel};
use crate::pins::Pins;
use crate::program::{Output, columns};

/// One thing that is there or not.
#[derive(Debug, Serialize)]
struct Item {
    name: &'static str,
    /// What it is good for.
    purpose: &'static str,
    ok: bool,
    /// Whether nothing works without it.
    required: bool,
    /// Why it is not there, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Item {
    fn of(
        name: &'static str,
        purpose: &'static str,
        required: bool,
        tried: Result<(), ToaError>,
    ) -> Self {
        let problem = tried.err().map(|error| error.to_string());
        Self { name, purpose, ok: problem.is_none(), required, problem }
    }
}

/// Tries everything.
///
/// # Errors
/// If something is missing without which nothing works.
pub(crate) fn check(
    pins: &Path,
    cgroup: Option<&Path>,
    output: &mut Output<'_>,
) -> Result<(), ToaError> {
    let items = items(pins, cgroup);
    let rows = items.iter().map(|item| {
        let mark = match (item.ok, item.required) {
            (true, _) => "yes",
            (false, true) => "NO",
            (false, false) => "no",
        };
        let text = item.problem.as_deref().unwrap_or(item.purpose);
        [item.name.to_owned(), mark.to_owned(), text.to_owned()]
    });
    let text = columns(&rows.collect::<Vec<_>>());
    output.print(&items, &text)?;
    match items.iter().filter(|item| item.required && !item.ok).count() {
        0 => Ok(()),
        missing => Err(ToaError::Missing(missing)),
    }
}

fn items(pins: &Path, cgroup: Option<&Path>) -> Vec<Item> {
    let tried = |multipath, hook| Kernel::open(multipath, &[])?.load(hook);
    let cgroup = Cgroup::open(cgroup).map(|_| ());
    let udp = Hook::UDP.into_iter().try_for_each(|hook| tried(false, hook));
    vec![
        Item::of("cgroup2", "which programs see their clients", true, cgroup),
        Item::of(
            "bpf-fs",
            "known connections stay known over a restart",
            true,
            Pins::possible(pins),
        ),
        Item::of("sock_ops", "clients are learned: Linux 5.10", true, tried(false, Hook::Learn)),
        Item::of("getpeername4", "IPv4 sockets: Linux 5.8", true, tried(false, Hook::Name4)),
        Item::of("getpeername6", "IPv6 sockets: Linux 5.8", true, tried(false, Hook::Name6)),
        Item::of("mptcp", "listeners of MPTCP: Linux 5.19", false, tried(true, Hook::Learn)),
        Item::of("getsockopt", "for run --getsockopt", false, tried(false, Hook::Sockopt)),
        Item::of("udp", "for run --udp", false, udp),
    ]
}
