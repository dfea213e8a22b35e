//! Proves of checks of real servers that
//! - they go by a KNI that is there for them alone, with what the kernel needs on it and nothing after the end,
//!   and their answers come back whatever conns there are;
//! - a server that dies gets no conns after as many checks as the rules say, at weight 0 for `ipvsadm` and as
//!   it was in the configuration, and gets some when it is back; what runs by others does not notice;
//! - without servers the sorry server serves, and `on_failure: remove` takes a server out;
//! - a page that changes is noticed by its digest, TLS is spoken, a server behind a router is reached, and one
//!   by an address that the kernel holds on a KNI of its own;
//! - a script has no privileges of the daemon's.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Arm, Daemon, Lab, Load, Nginx, Running, Wrk, http_get, run, wait_until};

const SOON: Duration = Duration::from_secs(10);

/// Often, so that tests take no longer than they must.
fn check(more: Value) -> Value {
    let mut check = json!({ "type": "tcp", "interval": "200ms", "timeout": "200ms", "fall": 2 });
    check.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    check
}

fn with_check(lab: &Lab, more: Value) -> Value {
    let mut config = lab.config();
    config["services"]["web"]["health"] = check(more);
    config
}

/// Servers of the service with what their checks say of them, in order.
fn states(daemon: &Daemon<'_>) -> Vec<String> {
    let told = daemon.ctl.json(&["health", "show", "web"]);
    let servers = told[0]["servers"].as_array().unwrap();
    servers.iter().map(|server| server["health"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn await_states(daemon: &Daemon<'_>, expected: [&str; 2]) {
    wait_until(&format!("servers are {expected:?}"), SOON, || states(daemon) == expected);
    // It is known before the workers run it.
    wait_until("the workers know", SOON, || {
        let servers = daemon.ctl.json(&["server", "show", "web"]);
        let servers = servers.as_array().unwrap();
        let taking = servers.iter().filter(|server| server["effective_weight"] != 0);
        taking.count() >= expected.iter().filter(|state| **state == "up").count()
            && servers
                .iter()
                .zip(expected)
                .all(|(server, state)| state == "up" || server["effective_weight"] == 0)
    });
}

/// Every server has passed its last check.
#[track_caller]
fn await_passes(daemon: &Daemon<'_>) {
    wait_until("checks pass", SOON, || {
        let told = daemon.ctl.json(&["health", "show", "web"]);
        let servers = told[0]["servers"].as_array().unwrap();
        servers.iter().all(|server| {
            let checks = server["checks"].as_array().unwrap();
            checks.iter().all(|check| check["passed"] == true)
        })
    });
}

/// Who answers so many requests.
fn answers(lab: &Lab, count: usize) -> Vec<String> {
    let url = lab.url("/quiet");
    (0..count).map(|_| http_get(&lab.client, &url).trim().to_owned()).collect()
}

/// Ends nginx with its workers, which would go on listening.
fn kill(lab: &Lab, index: usize, nginx: Nginx) {
    drop(nginx);
    let mut pids = lab.servers[index].pids();
    pids.insert(0, "-KILL".to_owned());
    let pids: Vec<_> = pids.iter().map(String::as_str).collect();
    lab.servers[index].run("kill", &pids);
}

#[test]
fn a_server_that_dies_is_out_until_it_is_back() {
    let Some(lab) = Lab::new(Arm::Two, Load::Heavy) else { return };
    let [first, _second] = Nginx::start_all(&lab);
    let daemon = Daemon::start(&lab, &with_check(&lab, json!({})));
    await_passes(&daemon);
    let shown = daemon.ctl.run(&["health", "show"]);
    assert!(shown.contains("198.18.0.121:80 by lan0.kni"), "{shown}");
    assert!(shown.contains("connected"), "{shown}");
    // What is there for checks has what they need, and no more.
    let addresses = lab.balancer.ip(&["-4", "-o", "addr", "show", "dev", "lan0.kni"]);
    assert!(addresses.lines().count() == 1 && addresses.contains("198.18.0.1/32"), "{addresses}");
    let routes = lab.balancer.ip(&["route", "show", "dev", "lan0.kni"]);
    let mut routes: Vec<_> = routes.lines().filter_map(|r| r.split_whitespace().next()).collect();
    routes.sort_unstable();
    assert_eq!(routes, ["198.18.0.121", "198.18.0.122"]);
    let mut both = answers(&lab, 4);
    both.sort();
    assert_eq!(both, ["rs1", "rs1", "rs2", "rs2"]);
    let configured = daemon.ctl.run(&["export"]);

    kill(&lab, 0, first);
    await_states(&daemon, ["inhibited", "up"]);
    assert_eq!(answers(&lab, 4), ["rs2"; 4]);
    assert_eq!(daemon.ctl.run(&["export"]), configured, "what is configured is as it was");
    assert_eq!(daemon.ctl.json(&["status"])["config_differs"], false);
    let listed = daemon.ctl.run(&["ipvsadm", "-ln"]);
    assert!(listed.contains("198.18.0.121:80              FullNat 0 "), "{listed}");
    assert!(listed.contains("198.18.0.122:80              FullNat 1 "), "{listed}");
    let saved = daemon.ctl.run(&["ipvsadm", "-S", "-n"]);
    assert!(saved.contains("-r 198.18.0.121:80 -b -w 1"), "{saved}");
    let shown = daemon.ctl.run(&["health", "show", "web"]);
    assert!(shown.contains("inhibited") && shown.contains("connection refused"), "{shown}");
    assert!(daemon.log().contains("real server is down"), "{}", daemon.log());
    // Checks go on beside what is served.
    let wrk = Wrk::run(&lab.client, 8, 2, &[&lab.url("/quiet")]);
    assert_eq!(wrk.errors, Vec::<String>::new());

    let _first = Nginx::start(&lab, 0);
    await_states(&daemon, ["up", "up"]);
    let mut both = answers(&lab, 4);
    both.sort();
    assert_eq!(both, ["rs1", "rs1", "rs2", "rs2"]);
    daemon.stop();
}

#[test]
fn without_servers_the_sorry_server_serves() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let [first, _sorry] = Nginx::start_all(&lab);
    let mut config = with_check(&lab, json!({ "on_failure": "remove" }));
    config["services"]["web"]["servers"] = json!([{ "address": "198.18.0.121:80" }]);
    config["services"]["web"]["sorry_server"] = json!("198.18.0.122:80");
    let daemon = Daemon::start(&lab, &config);
    await_passes(&daemon);
    assert_eq!(answers(&lab, 2), ["rs1"; 2]);
    let listed = || {
        let listed = daemon.ctl.run(&["ipvsadm", "-ln"]);
        let servers = listed.lines().filter_map(|line| line.strip_prefix("  -> 198.18.0."));
        servers
            .map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(), ["121:80 FullNat 1"]);
    kill(&lab, 0, first);
    wait_until("the sorry server serves", SOON, || listed() == ["122:80 FullNat 1"]);
    assert_eq!(answers(&lab, 2), ["rs2"; 2]);
    assert_eq!(states(&daemon), ["removed"]);
    let shown = daemon.ctl.run(&["health", "show", "web"]);
    assert!(shown.contains("web: quorum lost, 0 of 1; 198.18.0.122:80 serves instead"), "{shown}");
    let _first = Nginx::start(&lab, 0);
    wait_until("the server is back", SOON, || listed() == ["121:80 FullNat 1"]);
    assert_eq!(answers(&lab, 2), ["rs1"; 2]);
    daemon.stop();
}

/// `openssl s_server` on port 443 of a real server, with a certificate of its own making.
fn tls_server(lab: &Lab, index: usize) -> Running {
    let (key, certificate) = (lab.path("key.pem"), lab.path("cert.pem"));
    let mut make = std::process::Command::new("openssl");
    make.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=other",
        "-days",
        "2",
    ]);
    run(make.arg("-keyout").arg(&key).arg("-out").arg(&certificate)).ok();
    let mut command = lab.servers[index].command("openssl");
    command.args(["s_server", "-accept", "443", "-www"]);
    Running::start(command.arg("-key").arg(&key).arg("-cert").arg(&certificate), &lab.dir, "tls")
}

#[test]
fn pages_are_read_and_tls_is_spoken() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let [first, second] = Nginx::start_all(&lab);
    for nginx in [&first, &second] {
        fs::write(nginx.files.join("files/health"), "ok\n").unwrap();
    }
    let page = |more: Value| {
        let mut page = check(json!({ "type": "http", "path": "/files/health" }));
        page.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        page
    };
    let digest = page(json!({ "digest": "eff5bc1ef8ec9d03e640fc4370f5eacd" }));
    let _tls = tls_server(&lab, 1);
    let tls = check(
        json!({ "type": "https", "port": 443, "host": "shop.example", "body": "(?i)cipher" }),
    );
    let ping = check(json!({ "type": "icmp" }));
    let mut config = lab.config();
    config["services"]["web"]["servers"] = json!([
        { "address": "198.18.0.121:80", "health": [digest, ping] },
        { "address": "198.18.0.122:80", "health": [page(json!({ "body": "^ok" })), tls] },
    ]);
    let daemon = Daemon::start(&lab, &config);
    await_passes(&daemon);
    fs::write(first.files.join("files/health"), "not ok\n").unwrap();
    await_states(&daemon, ["inhibited", "up"]);
    assert_eq!(answers(&lab, 2), ["rs2"; 2]);
    fs::write(first.files.join("files/health"), "ok\n").unwrap();
    fs::write(second.files.join("files/health"), "not ok\n").unwrap();
    await_states(&daemon, ["up", "inhibited"]);
    daemon.stop();
}

#[test]
fn servers_behind_a_router_are_reached() {
    let Some(lab) = Lab::new(Arm::One, Load::Light) else { return };
    let _nginx = Nginx::start_all(&lab);
    let mut config = with_check(&lab, json!({ "type": "icmp" }));
    // The client's gateway leads to it.
    config["services"]["web"]["servers"] =
        json!([{ "address": "198.18.0.121:80" }, { "address": "192.0.2.100:80" }]);
    let daemon = Daemon::start(&lab, &config);
    await_passes(&daemon);
    let routes = lab.balancer.ip(&["route", "show", "dev", "lan0.kni"]);
    assert!(routes.contains("192.0.2.100 via 198.18.0.254"), "{routes}");
    assert_eq!(states(&daemon), ["up", "up"]);
    // What is not checked any more has no route.
    daemon.ctl.run(&["server", "del", "web", "192.0.2.100:80"]);
    wait_until("the route is gone", SOON, || {
        !lab.balancer.ip(&["route", "show", "dev", "lan0.kni"]).contains("192.0.2.100")
    });
    daemon.stop();
}

#[test]
fn checks_go_by_an_address_of_the_kernels() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let [first, _second] = Nginx::start_all(&lab);
    let mut config = with_check(&lab, json!({ "type": "http", "path": "/" }));
    config["interfaces"]["lan0"]["kni"] = json!("lan0.kni");
    let daemon = Daemon::start(&lab, &config);
    lab.balancer.ip(&["addr", "add", "198.18.0.5/24", "dev", "lan0.kni"]);
    await_passes(&daemon);
    let from: Vec<_> =
        first.requests().into_iter().filter(|line| line.starts_with("198.18.0.5:")).collect();
    assert!(!from.is_empty(), "{:?}", first.requests());
    daemon.stop();
}

#[test]
fn a_script_has_nothing_of_the_daemons() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let script = |line: &str| {
        check(json!({ "type": "script", "timeout": "5s", "command": ["/bin/sh", "-c", line] }))
    };
    let mut config = lab.config();
    let powerless = "test $(id -un) = nobody && grep -q 'CapEff:.0000000000000000' /proc/self/status \
                     && grep -q 'NoNewPrivs:.1' /proc/self/status";
    config["services"]["web"]["servers"] = json!([
        { "address": "198.18.0.121:80", "health": script(powerless) },
        { "address": "198.18.0.122:80", "health": script("test $DPNAT_SERVER_ADDRESS != 198.18.0.122") },
    ]);
    let daemon = Daemon::start(&lab, &config);
    await_states(&daemon, ["up", "inhibited"]);
    wait_until("the first one was checked, too", SOON, || {
        let told = daemon.ctl.json(&["health", "show", "web"]);
        told[0]["servers"][0]["checks"][0]["passed"] == true
    });
    daemon.stop();
}
