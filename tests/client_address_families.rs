//! Proves of dpnatd and `dptoa` together, for clients of both families before servers of both, that
//! - unmodified nginx, Python, Node and Caddy (a server in Go) see the client of a connection, each of thousands its own;
//! - an unmodified unbound logs who sent a datagram, and its answers come back: within a family the client, from IPv4 by
//!   IPv6 the client under a name of IPv6, and the LIP where no name of the family can be had.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client_address::{Asker, python_says};
use crate::common::{Agent, Arm, Daemon, Lab, Load, Nginx, Running, Who, wait_until};
use crate::families::{FOUR, FOUR_TO_SIX, Kind, SIX, SIX_TO_FOUR, lab};

const ALL: [Kind; 4] = [FOUR, SIX, SIX_TO_FOUR, FOUR_TO_SIX];
const BALANCERS: &[&str] =
    &["--balancer", "198.18.0.10-198.18.0.13", "--balancer", "fd00:18::10-fd00:18::13", "--udp"];

/// A VIP has servers of its own family at their ports, and those of the other one at ports that are higher by this.
const OTHER: u16 = 10_000;

fn vport(kind: Kind, l4_port: u16) -> u16 {
    if kind.client6 == kind.server6 { l4_port } else { l4_port + OTHER }
}

/// Services of all kinds before the first real server's ports.
fn services(lab: &Lab, protocol: &str, shown: &str, l4_ports: &[u16]) -> Value {
    let mut config = SIX.config(lab);
    config["services"] = json!({});
    for kind in ALL {
        for l4_port in l4_ports {
            let vport = vport(kind, *l4_port);
            config["services"][format!("{}-{vport}", kind.name())] = json!({
                "vips": [format!("{}:{vport}", kind.host(lab))],
                "protocol": protocol,
                "client_address": shown,
                "servers": [{ "address": kind.server(0, *l4_port) }],
                "local_pool": if kind.server6 { "lan6" } else { "lan" },
            });
        }
    }
    config
}

#[test]
fn unmodified_servers_see_clients_of_both_families() {
    for arm in [Arm::Two, Arm::One] {
        let Some(lab) = lab(arm, Load::Light) else { return };
        let mut agent = Agent::new(&lab);
        let server = &lab.servers[0];
        let _nginx = Nginx::start(&lab, 0);
        let _python = Who::python(&lab, server, &["v6", "82"]);
        let _node = Who::node(&lab, server, "84");
        let _caddy = Who::caddy(&lab, server, "85");
        let config = services(&lab, "tcp", "toa", &[8080, 82, 84, 85]);
        let daemon = Daemon::start(&lab, &config);
        agent.start(BALANCERS);
        for kind in ALL {
            for l4_port in [8080, 82, 84, 85] {
                let at = format!("{}:{}", kind.host(&lab), vport(kind, l4_port));
                let mut asker = Asker::connect(&lab.client, &at);
                let (client, own) = (kind.client(&lab), asker.l4_port());
                // A socket of both families has names of IPv6; Go makes IPv4's of them again.
                let name = match (kind.client6, l4_port) {
                    (true, 85) => format!("[{client}]:{own}"),
                    (false, 85) => format!("{client}:{own}"),
                    (true, _) => format!("{client}:{own}"),
                    (false, _) => format!("::ffff:{client}:{own}"),
                };
                let (expected, said) = match l4_port {
                    82 => (python_says(&name), asker.answer()),
                    _ => (name, asker.ask()),
                };
                assert_eq!(said, expected, "{kind:?} port {l4_port}");
            }
        }
        assert_eq!((agent.counter("learned"), agent.counter("no-option")), (16, 0));
        assert_eq!(daemon.counter("toa.left-out"), 0);
        agent.stop();
        for kind in ALL {
            let at = format!("{}:{}", kind.host(&lab), vport(kind, 8080));
            let said = Asker::connect(&lab.client, &at).ask();
            let lip = if kind.server6 { "fd00:18::1" } else { "::ffff:198.18.0.1" };
            assert!(said.starts_with(lip), "{kind:?} without dptoa: {said}");
        }
        daemon.stop();
    }
}

/// Of all kinds at once: ports of clients and LIPs mix.
#[test]
fn each_of_thousands_of_connections_has_its_own_client() {
    /// Of each kind.
    const CONNECTIONS: usize = 500;
    let all =
        std::env::var("DPNAT_CLIENTS").map_or(ALL.len() * CONNECTIONS, |n| n.parse().unwrap());
    let count = all / ALL.len();
    let Some(lab) = lab(Arm::Two, Load::Heavy) else { return };
    let mut agent = Agent::new(&lab);
    let _python = Who::python(&lab, &lab.servers[0], &["v6", "82"]);
    let daemon = Daemon::start(&lab, &services(&lab, "tcp", "toa", &[82]));
    agent.start(BALANCERS);
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        for kind in ALL {
            let lab = &lab;
            scope.spawn(move || {
                let at = format!("{}:{}", kind.host(lab), vport(kind, 82));
                let mapped = if kind.client6 { "" } else { "::ffff:" };
                for _ in 0..count {
                    let mut asker = Asker::connect(&lab.client, &at);
                    let name = format!("{mapped}{}:{}", kind.client(lab), asker.l4_port());
                    assert_eq!(asker.answer(), python_says(&name), "{kind:?}");
                    // By RST, so that no port of the client rests in TIME_WAIT.
                    asker.abort();
                }
            });
        }
    });
    println!("{} connections in {} ms", count * ALL.len(), began.elapsed().as_millis());
    let learned = (count * ALL.len()) as u64;
    let counters =
        ["learned", "no-option", "untrusted", "no-memory"].map(|name| agent.counter(name));
    assert_eq!(counters, [learned, 0, 0, 0]);
    assert!(daemon.counter("toa.inserted") >= learned);
    assert_eq!(daemon.counter("toa.left-out"), 0);
    daemon.stop();
}

/// `unbound` that answers for one name, and logs who asks.
fn unbound(lab: &Lab) -> Running {
    let conf = lab.path("unbound.conf");
    let text = format!(
        "server:\n directory: \"{}\"\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n \
         use-syslog: no\n logfile: \"\"\n log-queries: yes\n module-config: \"iterator\"\n \
         interface: 0.0.0.0\n interface: ::0\n \
         access-control: 0.0.0.0/0 allow\n access-control: ::/0 allow\n \
         local-data: \"example.test. A 192.0.2.55\"\nremote-control:\n control-enable: no\n",
        lab.dir.display()
    );
    std::fs::write(&conf, text).unwrap();
    let mut command = lab.servers[0].command("unbound");
    command.arg("-d").arg("-c").arg(&conf);
    let mut process = Running::start(&mut command, &lab.dir, "unbound");
    process.wait_for_log("start of service", Duration::from_secs(10));
    process
}

#[test]
fn unbound_logs_clients_of_both_families() {
    let Some(lab) = lab(Arm::Two, Load::Light) else { return };
    let mut agent = Agent::new(&lab);
    let unbound = unbound(&lab);
    let mut config = services(&lab, "udp", "option", &[53]);
    for kind in [FOUR, SIX] {
        let mut single = config["services"][format!("{}-53", kind.name())].clone();
        single["vips"] = json!([format!("{}:54", kind.host(&lab))]);
        single["one_packet"] = true.into();
        config["services"][format!("{}-single", kind.name())] = single;
    }
    let daemon = Daemon::start(&lab, &config);
    let asked = |kind: Kind, vport: u16, who: &str| {
        let before = unbound.log().lines().count();
        let (l4_port, vip) = (vport.to_string(), format!("@{}", kind.vip(&lab)));
        let words = ["+short", "+tries=1", "+time=5", "-p", &l4_port, &vip, "example.test"];
        assert_eq!(lab.client.run("dig", &words).ok().stdout.trim(), "192.0.2.55", "{kind:?}");
        wait_until(&format!("unbound logs {who}"), Duration::from_secs(20), || {
            let log = unbound.log();
            let mut queries = log.lines().skip(before).filter(|line| line.contains("example.test"));
            queries.any(|line| line.contains(&format!("info: {who}")))
        });
    };
    let lip = |kind: Kind| if kind.server6 { "fd00:18::1" } else { "198.18.0.1" };
    for kind in ALL {
        asked(kind, vport(kind, 53), lip(kind));
    }
    agent.start(BALANCERS);
    for kind in [FOUR, SIX] {
        for vport in [53, 54] {
            asked(kind, vport, &format!("{} example.test", kind.client(&lab)));
        }
    }
    // 203.0.113.100 (RFC 8215).
    asked(FOUR_TO_SIX, vport(FOUR_TO_SIX, 53), "64:ff9b:1::cb00:7164 example.test");
    asked(SIX_TO_FOUR, vport(SIX_TO_FOUR, 53), lip(SIX_TO_FOUR));
    assert_eq!(agent.counter("udp-learned"), 5);
    agent.stop();
    for kind in ALL {
        asked(kind, vport(kind, 53), lip(kind));
    }
    daemon.stop();
}
