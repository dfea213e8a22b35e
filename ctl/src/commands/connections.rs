//! Conns: shown a page at a time, and ended.

use api::{Connection, ConnectionPage, ConnectionQuery, ConnectionsClosed, Operation, Request};

use crate::cli::{ConnFilter, ConnShow, ConnVerb, Options};
use crate::error::CtlError;
use crate::output::{Table, name};
use crate::session::{Outcome, Session};
use crate::units;

pub(super) fn conn(session: &mut Session<'_>, verb: &ConnVerb) -> Outcome {
    match verb {
        ConnVerb::Show(which) => show(session, which),
        ConnVerb::Del(which) => {
            let query = query(which)?;
            if query.is_unfiltered() {
                return Err(CtlError::usage(
                    "which connections? name them, as in `dpctl conn del --service shop`",
                ));
            }
            let request = Request::new(Operation::ConnectionDelete).query(&query);
            let answer: ConnectionsClosed = session.ask(request)?;
            session.print(&answer, |answer, _| {
                format!("{} ended\n", units::count(answer.closed, "connection"))
            })
        }
    }
}

fn query(filter: &ConnFilter) -> Result<ConnectionQuery, CtlError> {
    let state = filter.state.as_deref().map(|state| serde_json::from_value(state.into()));
    Ok(ConnectionQuery {
        service: filter.service.clone(),
        client: filter.client,
        vip: filter.vip,
        lip: filter.lip,
        server: filter.server,
        protocol: filter.protocol,
        state: state.transpose().map_err(|error| CtlError::usage(error.to_string()))?,
        worker: filter.worker,
        limit: None,
        cursor: None,
    })
}

fn show(session: &mut Session<'_>, which: &ConnShow) -> Outcome {
    let mut query = query(&which.filter)?;
    query.cursor.clone_from(&which.cursor);
    let most = which.limit as usize;
    let mut all = ConnectionPage::default();
    loop {
        // At least 1 is asked for: the loop ends when there are as many as wanted.
        let missing = most.saturating_sub(all.connections.len());
        query.limit = Some(u32::try_from(missing).unwrap_or(u32::MAX).min(api_limit()));
        let request = Request::new(Operation::ConnectionList).query(&query);
        let page: ConnectionPage = session.ask(request)?;
        let shown = page.connections.into_iter().filter(|conn| session.shows(conn.client.address));
        all.connections.extend(shown.take(missing));
        all.next = page.next;
        if all.next.is_none() || all.connections.len() >= most {
            break;
        }
        query.cursor.clone_from(&all.next);
    }
    session.print(&all, |all, options| conns(&all.connections, options))?;
    if all.next.is_some() && !session.is_json() {
        return session.remark(&format!(
            "these are the first {most}; there are more: choose them, or give --limit"
        ));
    }
    Ok(())
}

const fn api_limit() -> u32 {
    ConnectionQuery::LIMIT_MAX
}

fn conns(list: &[Connection], options: &Options) -> String {
    if options.brief {
        let line = |conn: &Connection| {
            let Connection { protocol, client, vip, lip, server, .. } = conn;
            format!("{protocol} {client} {vip} {lip} {server} {}\n", name(&conn.state))
        };
        return list.iter().map(line).collect();
    }
    if options.statistics {
        return with_statistics(list);
    }
    let mut table = Table::new(&["L4", "STATE", "CLIENT", "SERVICE", "LIP", "SERVER"]);
    for conn in list {
        table.row([
            conn.protocol.to_string(),
            name(&conn.state),
            conn.client.to_string(),
            conn.service.clone().unwrap_or_default(),
            conn.lip.to_string(),
            conn.server.to_string(),
        ]);
    }
    table.text("no connections")
}

fn with_statistics(list: &[Connection]) -> String {
    let mut table = Table::new(&[
        "L4", "STATE", "SERVICE", "CLIENT", "VIP", "LIP", "SERVER", ">WORKER", ">AGE", ">IDLE",
        ">EXPIRES",
    ]);
    for conn in list {
        table.row([
            conn.protocol.to_string(),
            name(&conn.state),
            conn.service.clone().unwrap_or_default(),
            conn.client.to_string(),
            conn.vip.to_string(),
            conn.lip.to_string(),
            conn.server.to_string(),
            conn.worker.to_string(),
            units::duration(conn.age_ms),
            units::duration(conn.idle_ms),
            units::duration(conn.expires_in_ms),
        ]);
    }
    table.text("no connections")
}
