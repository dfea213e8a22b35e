//! What of DPVS's commands has no counterpart.

use serde::Serialize;

use crate::compat::MISSING;
use crate::output::Table;
use crate::session::{Outcome, Session};

#[derive(Serialize)]
struct Row {
    command: &'static str,
    what: &'static str,
    instead: &'static str,
}

pub(super) fn compat(session: &mut Session<'_>) -> Outcome {
    let rows: Vec<Row> = MISSING
        .iter()
        .map(|missing| Row {
            command: missing.command,
            what: missing.what,
            instead: missing.instead,
        })
        .collect();
    let width = session.width;
    session.print(&rows, |rows, _| {
        let mut table = Table::new(&["COMMAND", "NOT SUPPORTED", "INSTEAD"]);
        for row in rows {
            table.row([row.command.to_owned(), row.what.to_owned(), row.instead.to_owned()]);
        }
        table.wrapped(width)
    })
}
