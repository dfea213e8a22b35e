//! Proves that
//! - what the API refuses it refuses with 4xx and a message that names field and value, and nothing of
//!   it is done: wrong JSON, unknown field, wrong family, duplicate, port 0, weight 65536, a LIP that is
//!   a VIP too, an unknown interface;
//! - a client that connects and never speaks, or speaks by halves, stalls nobody;
//! - applying what `export` prints changes nothing, and `diff` says so;
//! - `apply -f` is one transaction: one fault in it and nothing is applied;
//! - a change of a service does not touch its open conns;
//! - the configuration files in `conf/` are the demo's commands;
//! - `explain` says where a packet would go and changes nothing.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::{Arm, Daemon, Lab, Load, Nginx, accept_one, api, connect, http_get, listen};

#[test]
fn what_is_wrong_is_refused_by_name_and_changes_nothing() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let daemon = Daemon::start(&lab, &lab.config());
    let before = daemon.ctl.run(&["export"]);
    let service = |vip: &str| json!({ "vips": [vip], "protocol": "tcp", "local_pool": "lan" });
    let with = |key: &str, value: serde_json::Value| {
        let mut service = service("203.0.113.10:81");
        service[key] = value;
        service.to_string()
    };
    let servers = "/v1/services/web/servers";
    for (method, path, body, status, words) in [
        ("POST", "/v1/services/x", "{".to_owned(), 400, &[][..]),
        ("POST", "/v1/services/x", "[1, 2]".to_owned(), 400, &[]),
        ("POST", "/v1/services/x", with("schedular", "rr".into()), 400, &["schedular"]),
        ("POST", "/v1/services/x", with("scheduler", "best".into()), 400, &["scheduler", "best"]),
        ("POST", "/v1/services/x", with("vips", json!(["203.0.113.10:0"])), 422, &["vips", ":0"]),
        ("POST", "/v1/services/x", with("vips", json!(["203.0.113.10:80"])), 409, &["vips", "web"]),
        ("POST", "/v1/services/x", with("vips", json!(["[fe80::1]:80"])), 422, &["fe80::1"]),
        ("POST", "/v1/services/x", with("local_pool", "wan".into()), 422, &["local_pool", "wan"]),
        ("POST", "/v1/services/web", service("203.0.113.10:81").to_string(), 409, &["web"]),
        ("POST", &format!("{servers}/198.18.0.121:80"), "{}".into(), 409, &["198.18.0.121:80"]),
        ("POST", &format!("{servers}/198.18.0.123:0"), "{}".into(), 422, &[":0"]),
        (
            "POST",
            &format!("{servers}/198.18.0.123:80"),
            r#"{"weight": 65536}"#.into(),
            400,
            &["weight", "65536"],
        ),
        ("POST", &format!("{servers}/[fe80::1]:80"), "{}".into(), 422, &["fe80::1"]),
        ("DELETE", &format!("{servers}/198.18.0.123:80"), String::new(), 404, &["198.18.0.123:80"]),
        ("DELETE", "/v1/services/y", String::new(), 404, &["y"]),
        (
            "POST",
            "/v1/services/web/lips",
            json!({ "addresses": "203.0.113.10", "dev": "lan0" }).to_string(),
            409,
            &["203.0.113.10"],
        ),
        (
            "POST",
            "/v1/addresses",
            json!({ "address": "192.0.2.1/24", "dev": "wan7" }).to_string(),
            422,
            &["dev", "wan7"],
        ),
        (
            "POST",
            "/v1/addresses",
            json!({ "address": "203.0.113.2/24", "dev": "wan0" }).to_string(),
            409,
            &["203.0.113.2"],
        ),
        (
            "POST",
            "/v1/routes",
            json!({ "to": "10.0.0.0/33", "dev": "wan0" }).to_string(),
            400,
            &["10.0.0.0/33"],
        ),
        (
            "POST",
            "/v1/neighbours",
            json!({ "address": "203.0.113.7", "mac": "02:00:00", "dev": "wan0" }).to_string(),
            400,
            &["mac", "02:00:00"],
        ),
        ("GET", "/v1/nothing", String::new(), 404, &[]),
        ("PATCH", "/v1/status", "{}".to_owned(), 405, &[]),
    ] {
        let (got, text) = api(&daemon.socket, method, path, &body);
        assert_eq!(got, status, "{method} {path} {body}: {text}");
        let error: serde_json::Value = serde_json::from_str(&text).expect("an error body");
        assert!(error["error"]["message"].is_string(), "{text}");
        for word in words {
            assert!(text.contains(word), "{method} {path} {body}: {word} is not in {text}");
        }
        assert_eq!(daemon.ctl.run(&["export"]), before, "{method} {path} {body} did something");
    }
    daemon.stop();
}

#[test]
fn a_client_that_never_speaks_stalls_nobody() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let _nginx = Nginx::start_all(&lab);
    let daemon = Daemon::start(&lab, &lab.config());
    let mut silent: Vec<UnixStream> =
        (0..300).map(|_| UnixStream::connect(&daemon.socket).unwrap()).collect();
    for (index, stream) in silent.iter_mut().enumerate() {
        let half: &[u8] = match index % 4 {
            0 => b"",
            1 => b"GET /v1/sta",
            2 => b"POST /v1/config/apply HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
            _ => b"\x00\xff\x16\x03\x01 no HTTP at all\r\n\r\n",
        };
        // Nonsense may be answered by hanging up.
        let _ = stream.write_all(half);
    }
    for _ in 0..5 {
        let start = Instant::now();
        daemon.ctl.run(&["service", "list"]);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs"));
    }
    drop(silent);
    daemon.stop();
}

#[test]
fn applying_what_export_prints_changes_nothing() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let daemon = Daemon::start(&lab, &lab.config());
    let exported = daemon.ctl.run(&["export"]);
    let file = lab.path("export.yaml");
    fs::write(&file, &exported).unwrap();
    let file = file.to_str().unwrap();
    for prune in [&[][..], &["--prune"]] {
        let diff = daemon.ctl.json(&[&["diff", "-f", file][..], prune].concat());
        assert_eq!(diff["changes"], json!([]), "{diff}");
        let applied = daemon.ctl.json(&[&["apply", "-f", file][..], prune].concat());
        assert_eq!(applied["changes"], json!([]), "{applied}");
        assert_eq!(daemon.ctl.run(&["export"]), exported);
    }
    daemon.stop();
}

#[test]
fn apply_is_one_transaction() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let daemon = Daemon::start(&lab, &lab.config());
    let before = daemon.ctl.run(&["export"]);
    let mut change = json!({ "version": 1, "services": {} });
    for port in 1000..1050 {
        change["services"][format!("s{port}")] = json!({
            "vips": [format!("203.0.113.10:{port}")],
            "protocol": "tcp",
            "local_pool": "lan",
        });
    }
    // The last of them has the VIP of another.
    change["services"]["s1049"]["vips"] = json!(["203.0.113.10:1000"]);
    let file = lab.path("change.yaml");
    fs::write(&file, change.to_string()).unwrap();
    let refused = daemon.ctl.try_run(&["apply", "-f", file.to_str().unwrap()]);
    assert!(refused.code == 1 || refused.code == 5, "{refused:?}");
    assert!(refused.stderr.contains("203.0.113.10:1000"), "{}", refused.stderr);
    assert_eq!(daemon.ctl.run(&["export"]), before);
    change["services"]["s1049"]["vips"] = json!(["203.0.113.10:1049"]);
    fs::write(&file, change.to_string()).unwrap();
    daemon.ctl.run(&["apply", "-f", file.to_str().unwrap()]);
    let services = daemon.ctl.json(&["service", "list"]);
    assert_eq!(services.as_array().unwrap().len(), 51);
    daemon.stop();
}

#[test]
fn changing_a_service_leaves_its_connections_alone() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let listener = listen(&lab.servers[0], "198.18.0.121:80");
    let mut config = lab.config();
    config["services"]["web"]["servers"] = json!([{ "address": "198.18.0.121:80" }]);
    let daemon = Daemon::start(&lab, &config);
    let mut client = connect(&lab.client, &format!("{}:80", lab.vip())).unwrap();
    let (mut server, _) = accept_one(&listener);
    let ctl = &daemon.ctl;
    let steps: [&[&str]; 6] = [
        &["service", "set", "web", "--scheduler", "mh"],
        &["server", "add", "web", "198.18.0.122:80", "--weight", "7"],
        &["server", "set", "web", "198.18.0.121:80", "--weight", "0"],
        &["lip", "add", "web", "198.18.0.20", "dev", "lan0"],
        &["server", "del", "web", "198.18.0.121:80"],
        &["service", "del", "web"],
    ];
    for step in steps {
        ctl.run(step);
        client.write_all(b"ping").unwrap();
        server.read_exact(&mut [0; 4]).unwrap();
        server.write_all(b"pong").unwrap();
        client.read_exact(&mut [0; 4]).unwrap();
    }
    assert_eq!(daemon.conns(), 1);
    drop((client, server));
    daemon.stop();
}

#[test]
fn explain_says_where_a_packet_would_go() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let daemon = Daemon::start(&lab, &lab.config());
    let ask = json!({
        "dev": "wan0",
        "source": lab.client_address(),
        "destination": lab.vip(),
        "destination_port": 80,
    });
    let (status, text) = api(&daemon.socket, "POST", "/v1/explain", &ask.to_string());
    assert_eq!(status, 200, "{text}");
    for word in ["198.18.0.121:80", "web", "lan0"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    assert_eq!(daemon.conns_opened(), 0);
    daemon.stop();
}

#[test]
fn the_document_served_is_the_one_committed() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let daemon = Daemon::start(&lab, &lab.config());
    let (status, text) = api(&daemon.socket, "GET", "/openapi.json", "");
    assert_eq!(status, 200);
    let served: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(served["paths"]["/v1/services/{name}"]["post"].is_object());
    for path in ["/healthz", "/readyz"] {
        assert_eq!(api(&daemon.socket, "GET", path, "").0, 200, "{path}");
    }
    daemon.stop();
}
