//! Path tests: real workers on interfaces in memory, told by packets and judged by the ledger.
//!
//! Begin with `one_connection.rs`. `bed/` is what the tests stand on; each other file is a subject.

mod bed;
mod closing;
mod conn;
mod expiry;
mod numbers;
mod one_connection;
mod reuse;
mod toa;
