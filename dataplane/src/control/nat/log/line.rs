//! One line of the log of NAT.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nat::mapping::Endpoint32;
use serde::Serialize;
use types::{Now, Proto};

use crate::control::compile::GatewayNames;
use crate::worker::nat_log::{Kind, NatRecord};

/// A record as it is written.
#[derive(Serialize)]
struct Line {
    time: String,
    event: &'static str,
    protocol: String,
    inside: String,
    outside: String,
    /// Left out if the rule is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
    #[serde(flatten)]
    counts: Option<Counts>,
}

#[derive(Serialize)]
struct Counts {
    packets_out: u32,
    bytes_out: u64,
    packets_in: u32,
    bytes_in: u64,
}

/// Writes a record that was taken from its ring at this time.
pub(super) fn write(
    mut out: impl Write,
    record: &NatRecord,
    names: &GatewayNames,
    (taken, now): (SystemTime, Now),
) -> std::io::Result<()> {
    let age = Duration::from_millis(now.since(record.tick_ms).into());
    let endpoint = |endpoint: Endpoint32| {
        let address = Ipv4Addr::from(endpoint.address);
        match Proto::from_number(record.proto) {
            Some(_) => SocketAddrV4::new(address, endpoint.l4_port).to_string(),
            None => address.to_string(),
        }
    };
    let (event, is_session) = match record.kind {
        Kind::MappingCreated => ("mapping-created", false),
        Kind::MappingDeleted => ("mapping-deleted", false),
        Kind::SessionCreated => ("session-created", true),
        Kind::SessionDeleted => ("session-deleted", true),
    };
    let counts = (record.kind == Kind::SessionDeleted).then_some(Counts {
        packets_out: record.sent.0,
        bytes_out: record.sent.1,
        packets_in: record.received.0,
        bytes_in: record.received.1,
    });
    let protocol = Proto::from_number(record.proto);
    let line = Line {
        time: rfc3339(taken.checked_sub(age).unwrap_or(taken)),
        event,
        protocol: protocol.map_or_else(|| record.proto.to_string(), |proto| proto.to_string()),
        inside: endpoint(record.inside),
        outside: endpoint(record.outside),
        rule: names.rule(record.rule).map(ToString::to_string),
        remote: is_session.then(|| endpoint(record.remote)),
        counts,
    };
    serde_json::to_writer(&mut out, &line)?;
    out.write_all(b"\n")
}

/// A time in UTC with milliseconds, by RFC 3339.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let ms = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day so many days after 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut left) = (1970, days);
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}
