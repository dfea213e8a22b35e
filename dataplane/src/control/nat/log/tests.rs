//! The log of NAT, from workers' records to lines in its file.

use std::time::{Duration, UNIX_EPOCH};

use nat::mapping::Endpoint32;
use serde_json::Value;
use testkit::pkt;
use types::{MacAddr, Now, Slot, WorkerId};

use super::line::{self, rfc3339};
use crate::control::compile::GatewayNames;
use crate::control::fake::{Bench, LAN, SHOP};
use crate::worker::nat_log::{Kind, NatRecord};

const EXTRA: &str = "
snat:
  office:
    match: { source: [ 198.18.0.0/24 ], out_dev: wan0 }
    wan_addresses: [ 203.0.113.20 ]
";

fn config(file: &str, events: &str) -> String {
    format!("{SHOP}{EXTRA}nat_log: {{ file: \"{file}\", events: {events} }}\n")
}

#[test]
fn a_line_says_all_of_a_session_and_no_remote_of_a_mapping() {
    let record = NatRecord {
        kind: Kind::SessionDeleted,
        tick_ms: 1_000,
        proto: 6,
        inside: Endpoint32::new(0x0a00_0001, 5_000),
        outside: Endpoint32::new(0xcb00_7114, 6_000),
        remote: Endpoint32::new(0xc000_0250, 443),
        rule: Slot::NONE,
        sent: (3, 400),
        received: (2, 3_000),
    };
    let now = Now { tick_ms: 1_500, ..Now::default() };
    let taken = UNIX_EPOCH + Duration::from_millis(1_709_164_800_250);
    let text = |record| {
        let mut text = Vec::new();
        line::write(&mut text, &record, &GatewayNames::default(), (taken, now)).unwrap();
        String::from_utf8(text).unwrap()
    };
    let session = "{\"time\":\"2024-02-28T23:59:59.750Z\",\"event\":\"session-deleted\",\"protocol\":\"tcp\",\
        \"inside\":\"10.0.0.1:5000\",\"outside\":\"203.0.113.20:6000\",\"remote\":\"192.0.2.80:443\",\
        \"packets_out\":3,\"bytes_out\":400,\"packets_in\":2,\"bytes_in\":3000}\n";
    assert_eq!(text(record), session);
    let mapping = text(NatRecord { kind: Kind::MappingCreated, proto: 47, ..record });
    let mapping: Value = serde_json::from_str(&mapping).unwrap();
    assert_eq!(mapping.as_object().unwrap().len(), 5, "{mapping}");
    assert_eq!((&mapping["protocol"], &mapping["inside"]), (&"47".into(), &"10.0.0.1".into()));
}

#[test]
fn times_are_of_the_calendar() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400, "2000-02-29T00:00:00.000Z"),
        (1_704_067_199, "2023-12-31T23:59:59.000Z"),
        (4_107_542_400, "2100-03-01T00:00:00.000Z"),
    ] {
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
    }
}

/// All lines that come to be in a file.
async fn lines(bench: &mut Bench, file: &str, wanted: usize) -> Vec<Value> {
    let mut lines = Vec::new();
    for _ in 0..500 {
        bench.turn();
        let text = std::fs::read_to_string(file).unwrap();
        lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if lines.len() >= wanted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lines
}

fn question(bench: &mut Bench, sport: u16) {
    let mac = bench.control.state().snapshot.interfaces[0].mac;
    let packet = pkt().eth(MacAddr([2, 0, 0, 0, 0, 9]), mac).ipv4("198.18.0.9", "192.0.2.80");
    bench.arrive(WorkerId(0), LAN, packet.udp(sport, 53).build());
}

#[tokio::test]
async fn the_file_is_named_if_it_cannot_be_had_opened_anew_and_left() {
    let dir = std::env::temp_dir().join(format!("dpnat-nat-log-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("nat.jsonl").display().to_string();
    let mut bench = Bench::start(&config(&file, "off")).await;
    assert!(!dir.join("nat.jsonl").exists());

    let control = bench.control.clone();
    let absent = config("/nowhere/nat.jsonl", "mappings");
    let query = api::ApplyQuery { prune: true, ..api::ApplyQuery::default() };
    let asked = query.clone();
    let refused = bench.run(async move { control.apply(absent, asked).await }).await.unwrap_err();
    let message = refused.error.message;
    assert!(message.starts_with("nat_log.file: cannot open /nowhere/nat.jsonl: "), "{message}");

    let (control, on) = (bench.control.clone(), config(&file, "mappings"));
    let asked = query.clone();
    bench.run(async move { control.apply(on, asked).await }).await.unwrap();
    question(&mut bench, 5_000);
    let found = lines(&mut bench, &file, 1).await;
    assert_eq!(found.len(), 1);
    let first = &found[0];
    assert_eq!(
        (&first["event"], &first["rule"]),
        (&"mapping-created".into(), &"snat/office".into())
    );
    assert_eq!(first["inside"], "198.18.0.9:5000");
    assert!(first.get("remote").is_none());

    let moved = format!("{file}.1");
    std::fs::rename(&file, &moved).unwrap();
    bench.control.reopen_nat_log().await.unwrap();
    question(&mut bench, 5_001);
    assert_eq!(lines(&mut bench, &file, 1).await[0]["inside"], "198.18.0.9:5001");
    assert_eq!(lines(&mut bench, &moved, 1).await.len(), 1);

    let (control, off) = (bench.control.clone(), config(&file, "off"));
    bench.run(async move { control.apply(off, query).await }).await.unwrap();
    assert!(bench.control.state().nat_log.is_none());
    std::fs::remove_dir_all(&dir).unwrap();
}
