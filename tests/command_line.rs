//! Proves of `dpctl` and the socket that
//! - exit codes tell refused, usage, not found, conflict and unreachable apart, and errors are one line
//!   on standard error;
//! - the socket is for root and its group only;
//! - what runs and what is saved are two things: `status` and `diff` say when they differ, `config save`
//!   and the next start agree;
//! - `conn del` ends the conns that it names, resetting both ends, and no others;
//! - the log's level changes while the daemon runs; logs can be JSON;
//! - more memory than there is is refused, saying how much is missing.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{
    Arm, Daemon, Lab, Load, Nginx, accept_one, connect, http_get, listen, run, wait_until,
};

#[test]
fn exit_codes_tell_what_was_wrong() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let daemon = Daemon::start(&lab, &lab.config());
    let before = daemon.ctl.run(&["export"]);
    for (code, arguments, words) in [
        (1, "server add web 198.18.0.123:0", ":0"),
        (1, "address add 192.0.2.1/24 dev wan7", "wan7"),
        (2, "server add web 198.18.0.123:80 --weight 65536", "65536"),
        (2, "service add x --vip 203.0.113.10:81", "--protocol"),
        (2, "teapot show", "teapot"),
        (3, "service del shop", "shop"),
        (3, "server del web 198.18.0.123:80", "198.18.0.123:80"),
        (5, "server add web 198.18.0.121:80", "198.18.0.121:80"),
        (5, "service add more --vip 203.0.113.10:80 --protocol tcp", "web"),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let refused = daemon.ctl.try_run(&arguments);
        assert_eq!(refused.code, code, "{arguments:?}: {refused:?}");
        assert!(refused.stderr.contains(words), "{arguments:?}: {}", refused.stderr);
        assert_eq!(refused.stdout, "", "{arguments:?}");
        if code != 2 {
            assert_eq!(refused.stderr.trim_end().lines().count(), 1, "{}", refused.stderr);
        }
    }
    assert_eq!(daemon.ctl.run(&["export"]), before);
    // As with ip: short names, and an object without a verb.
    for arguments in ["addr", "neigh", "servi", "r", "-br link", "-s service show web"] {
        daemon.ctl.run(&arguments.split(' ').collect::<Vec<_>>());
    }
    daemon.stop();
}

#[test]
fn the_socket_is_for_root_and_its_group() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let daemon = Daemon::start(&lab, &lab.config());
    let mode = fs::metadata(&daemon.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    daemon.stop();
}

#[test]
fn what_runs_is_saved_when_asked() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let _nginx = Nginx::start_all(&lab);
    let daemon = Daemon::start(&lab, &lab.config());
    let differs = |daemon: &Daemon<'_>| daemon.ctl.json(&["status"])["config_differs"].clone();
    assert_eq!(differs(&daemon), false);
    daemon.ctl.run(&["server", "del", "web", "198.18.0.121:80"]);
    assert_eq!(differs(&daemon), true);
    assert!(daemon.ctl.run(&["diff"]).contains("198.18.0.121:80"));
    daemon.ctl.run(&["config", "save"]);
    assert_eq!(differs(&daemon), false);
    let saved: Value = serde_json::from_str(&daemon.ctl.run(&["--json", "export"])).unwrap();
    daemon.stop();
    let daemon = Daemon::start_again(&lab);
    let running: Value = serde_json::from_str(&daemon.ctl.run(&["--json", "export"])).unwrap();
    assert_eq!(running, saved);
    assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs2"));
    daemon.stop();
}

#[test]
fn conns_are_ended_by_name() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let listeners =
        [0, 1].map(|n| listen(&lab.servers[n], &format!("{}:80", lab.server_address(n))));
    let daemon = Daemon::start(&lab, &lab.config());
    let vip = format!("{}:80", lab.vip());
    let mut pairs = listeners.each_ref().map(|listener| {
        let client = connect(&lab.client, &vip).unwrap();
        (client, accept_one(listener).0)
    });
    let listed = daemon.ctl.json(&["conn", "list", "--server", "198.18.0.122:80"]);
    assert_eq!(listed["connections"].as_array().unwrap().len(), 1, "{listed}");
    daemon.ctl.run(&["conn", "del", "--server", "198.18.0.122:80"]);
    let (client, server) = &mut pairs[1];
    for end in [client, server] {
        assert_eq!(end.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let (client, server) = &mut pairs[0];
    client.write_all(b"still here").unwrap();
    server.read_exact(&mut [0; 10]).unwrap();
    wait_until("one conn is left", Duration::from_secs(2), || daemon.conns() == 1);
    daemon.stop();
}

#[test]
fn the_log_is_told_while_running() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut config = lab.config();
    config["log"] = json!({ "format": "json", "level": "error" });
    let daemon = Daemon::start(&lab, &config);
    assert_eq!(daemon.log(), "");
    daemon.ctl.run(&["log", "level", "info"]);
    daemon.ctl.run(&["server", "set", "web", "198.18.0.121:80", "--weight", "7"]);
    wait_until("the change is logged", Duration::from_secs(2), || !daemon.log().is_empty());
    for line in daemon.log().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(event["timestamp"].is_string(), "{event}");
    }
    daemon.stop();
}

#[test]
fn memory_that_is_not_there_is_refused() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut config = lab.config();
    config["conntrack"]["max_connections"] = 268_000_000.into();
    fs::write(lab.path("dpnat.yaml"), config.to_string()).unwrap();
    for arguments in [&["--check"][..], &[]] {
        let refused = run(Daemon::command(&lab).args(arguments));
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("MiB"), "how much: {}", refused.stderr);
    }
}
