//! What a redirect must never be taken for.

use types::{Proto, WorkerId};

use super::*;
use crate::testing::{pair, table};
use crate::{Cursor, InsertError, Local, NewCold, Timeouts};

const TO: WorkerId = WorkerId(3);

fn key(n: u32) -> FlowKey {
    pair(Proto::Tcp, n).0.key()
}

#[test]
fn a_redirect_is_no_conn() {
    let now = Now::from_ms(5);
    let mut table = table(2);
    table.insert_redirect(key(0), TO, 0, now).unwrap();
    let id = table.lookup(&key(0), table.hash(&key(0))).unwrap();
    assert_eq!(table.flow(id).unwrap().redirect(), Some(TO));
    assert_eq!((table.len(), table.redirects(), table.half_open()), (0, 1, 0));
    assert!(table.cold(id.conn()).is_none());
    assert!(table.remove(id.conn()).is_none());
    assert!(table.export(id.conn(), now).is_none());
    assert!(table.next_conn(&mut Cursor::default(), &mut u32::MAX.clone()).is_none());
    assert!(table.victim(Now::from_ms(500_000), |_| true).is_none());
    assert_eq!((table.dirty_len(), table.pop_dirty()), (0, None));
    assert_eq!(table.redirects(), 1);
    assert!(table.remove_redirect(id));
    assert!(!table.remove_redirect(id));
    assert_eq!(table.index.entries(), (0, 0));
}

#[test]
fn a_conn_is_no_redirect() {
    let mut table = table(2);
    let (forward, reverse) = pair(Proto::Tcp, 0);
    let marked = Flow { flags: flags::REDIRECT, ..forward };
    let conn = table.insert(marked, reverse, NewCold::default(), Now::default()).unwrap();
    assert_eq!(table.follow_redirect(conn.forward(), Now::default()), None);
    assert!(!table.remove_redirect(conn.forward()));
    let error = table.insert_redirect(key(0), TO, 0, Now::default()).unwrap_err();
    assert_eq!(error, InsertError::Exists(Some(conn.forward())));
    assert_eq!((table.len(), table.redirects()), (1, 0));
}

#[test]
fn the_dirty_fifo_skips_a_redirect_in_the_place_of_a_conn() {
    let mut table = table(1);
    let (forward, reverse) = pair(Proto::Tcp, 0);
    let conn = table.insert(forward, reverse, NewCold::default(), Now::default()).unwrap();
    table.remove(conn).unwrap();
    table.insert_redirect(key(0), TO, 0, Now::default()).unwrap();
    assert_eq!(table.lookup(&key(0), table.hash(&key(0))), Some(conn.forward()));
    assert_eq!((table.dirty_len(), table.pop_dirty()), (1, None));
}

#[test]
fn redirects_and_conns_share_the_places() {
    let mut table = table(3);
    let now = Now::default();
    for n in 0..2 {
        table.insert_redirect(key(n), TO, 0, now).unwrap();
    }
    let (forward, reverse) = pair(Proto::Udp, 7);
    assert!(!table.is_full());
    table.insert(forward, reverse, NewCold::default(), now).unwrap();
    assert!(table.is_full());
    assert_eq!(table.insert_redirect(key(2), TO, 0, now), Err(InsertError::Full));
    assert_eq!(table.insert_redirect(key(1), WorkerId(1), 0, now), Ok(()), "one that is there");
}

#[test]
fn a_redirect_lives_as_long_as_any_conn_of_its_class_may() {
    let longest = Timeouts::default().class(0).tcp_established_ms;
    let mut table = table(2);
    let due = |table: &mut FlowTable, ms: u32| {
        let mut budget = crate::Budget { heads: 8, places: 8 };
        assert_eq!(table.next_due(Now::from_ms(ms.into()), &mut budget), None);
        table.redirects()
    };
    table.insert_redirect(key(0), TO, 0, Now::from_ms(0)).unwrap();
    let id = table.lookup(&key(0), table.hash(&key(0))).unwrap();
    assert_eq!(table.follow_redirect(id, Now::from_ms(1_000)), Some(TO));
    assert_eq!(due(&mut table, longest), 1, "it was used since");
    assert_eq!(due(&mut table, 2 * longest), 0);
}

#[test]
fn the_record_of_a_conn_replaces_its_redirect() {
    let mut old = table(2);
    let (forward, reverse) = pair(Proto::Tcp, 0);
    let conn = old.insert(forward, reverse, NewCold::default(), Now::default()).unwrap();
    let record = old.export(conn, Now::default()).unwrap();
    let mut new = table(2);
    new.insert_redirect(key(0), TO, 0, Now::default()).unwrap();
    let conn = new.import(&record, Local::default(), Now::default()).unwrap();
    assert_eq!((new.len(), new.redirects()), (1, 0));
    // What cannot be imported leaves it.
    new.remove(conn).unwrap();
    new.insert_redirect(key(0), TO, 5, Now::default()).unwrap();
    let other = pair(Proto::Tcp, 9).0;
    new.insert(other, reverse, NewCold::default(), Now::default()).unwrap();
    assert!(new.import(&record, Local::default(), Now::default()).is_err());
    assert_eq!(new.redirects(), 1);
}
