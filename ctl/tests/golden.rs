//! What `dpctl` prints for people and for programs, line by line.

use api::Operation;

use crate::daemon::{Daemon, answer, web};

/// Compares with what is in `snapshots/`; `INSTA_UPDATE=always cargo test -p ctl` writes it.
macro_rules! assert_golden {
    ($text:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!($text) })
    };
}

/// What several lines print, each under itself. They all succeed, and ask for what is remembered.
fn session(lines: &[&str]) -> String {
    session_with(&Daemon::new(), lines)
}

fn session_with(daemon: &Daemon, lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        let finished = daemon.dpctl(line);
        assert_eq!(finished.code, 0, "{line}: {}", finished.err);
        text.push_str(&format!("$ dpctl {line}\n{}", finished.out));
        text.extend(finished.err.lines().map(|line| format!("(stderr) {line}\n")));
        text.extend(daemon.asked().iter().map(|asked| format!("(asked) {asked}\n")));
        text.push('\n');
    }
    text
}

/// Shows an object in all ways.
fn shown(object: &str) -> String {
    let lines = ["", "-br ", "-j "].map(|options| format!("{options}{object}"));
    session(&lines.each_ref().map(String::as_str))
}

#[test]
fn status() {
    assert_golden!(shown(""));
}

#[test]
fn address() {
    let text = shown("address");
    assert_golden!(
        text + &session(&[
            "-4 addr show dev wan0",
            "-6 addr",
            "addr add 203.0.113.10/32 dev wan0",
            "addr add 203.0.113.10 --dev wan0",
            "-j addr add 203.0.113.10 --dev wan0",
            "addr del 203.0.113.10/32",
            "addr delete 203.0.113.10 dev wan0",
        ])
    );
}

#[test]
fn route() {
    let text = shown("route");
    assert_golden!(
        text + &session(&[
            "route show --all dev lan0",
            "route add default via 203.0.113.1 dev wan0",
            "route set 10.0.0.0/8 via 198.18.0.254 dev lan0 metric 10 src 198.18.0.1 mtu 1400",
            "route del 10.0.0.0/8 metric 10",
            "route add 192.0.2.0/24 dev lan0 type local",
        ])
    );
}

#[test]
fn neighbour() {
    let text = shown("neighbour");
    assert_golden!(
        text + &session(&[
            "neigh add 198.18.0.121 lladdr 02:00:00:00:00:01 dev lan0",
            "neigh replace 198.18.0.121 --mac 02:00:00:00:00:01 --dev lan0",
            "neigh del 198.18.0.121 dev lan0",
            "neigh show dev lan0",
        ])
    );
}

#[test]
fn link() {
    let text = shown("link");
    assert_golden!(text + &session(&["-s link", "link show wan0", "-br link show dev wan0"]));
}

#[test]
fn service() {
    let text = shown("service");
    assert_golden!(
        text + &session(&[
            "service show shop",
            "-s service show shop",
            "-j service show shop",
            "service add shop --vip 203.0.113.10:80 --protocol tcp --scheduler rr",
            "service add dns vip 203.0.113.10:53 vip 203.0.113.11:53 protocol udp one-packet on \
         local-pool lan servers dns timeout udp=10s persistence 5m persistence-prefix 24 \
         max-connections 1000 on-not-syn drop on-no-server reset on-limit unreachable \
         reset-on-expiry off evict-idle on slow-start 30s hash-by source-and-port \
         client-address none",
            "service set shop --scheduler mh --timeout tcp-syn=5s --timeout tcp_established=none",
            "service set shop --persistence none --max-connections none --local-pool none",
            "service set shop --vip 203.0.113.12:80 --persistence-prefix 16",
            "service set shop client-address proxy-v2 client-header trust",
            "service set dns --client-address proxy-v2 --proxy-datagrams first",
            "service del shop",
            "service del shop --reset",
        ])
    );
}

#[test]
fn server() {
    let text = shown("server");
    assert_golden!(
        text + &session(&[
            "-s server",
            "server show shop",
            "-s server show shop",
            "-j server show shop",
            "server add shop 198.18.0.121:80",
            "server add shop 198.18.0.121:80 weight 100 upper 5000 lower 4000",
            "server set shop 198.18.0.121:80 --weight 0",
            "server set shop 198.18.0.121:80 --admin drain --upper none",
            "server del shop 198.18.0.121:80",
            "server del shop 198.18.0.121:80 --reset",
        ])
    );
}

#[test]
fn lip() {
    let text = shown("lip");
    assert_golden!(
        text + &session(&[
            "lip show shop",
            "lip add shop 198.18.0.10-198.18.0.41 dev lan0",
            "lip add shop 198.18.0.0/28",
            "lip del shop 198.18.0.10",
        ])
    );
}

#[test]
fn snat() {
    let text = shown("snat");
    assert_golden!(
        text + &session(&[
            "-s snat",
            "snat show office",
            "-j snat show office",
            "snat add office --source 10.0.0.0/8 --out-dev wan0 \
             --except-destination 100.64.0.0/10 --wan 203.0.113.20-203.0.113.27",
            "snat add all --out-dev wan0 --wan interface",
            "snat set office --wan 203.0.113.20-203.0.113.26,203.0.113.28 \
             --wan 203.0.113.27,weight=0,admin=drain",
            "snat add office source 10.0.0.0/8,192.168.1.5-192.168.1.9 destination 8.8.8.8 \
             protocol tcp,udp,132 source-ports 1-1023 destination-ports 80,443 in-dev lan0 \
             except-source 10.9.0.0/16 except-protocol vrrp except-source-ports 1 \
             except-destination-ports 25 wan 203.0.113.20 wan 203.0.113.22 \
             mapping address-and-port-dependent filtering address-dependent pooling arbitrary \
             port-selection sequential ports 2000-3000 preserve-parity on port-rest 0s \
             max-ports 100 max-sessions 200 new-sessions-per-second 10 on-exhausted icmp \
             mss-clamp 1400 hairpin off timeout udp=2m timeout tcp-established=3h position 1",
            "snat add partner --destination 192.0.2.0/24 --action accept --before office",
            "snat set office --filtering address-dependent --except-destination none",
            "snat set office --position 1",
            "snat set office --in-dev any --mss-clamp path",
            "snat del office",
            "snat del office --reset",
            "snat mappings",
            "-s snat mappings --rule office --inside 10.0.0.7 --protocol udp",
            "-br snat map outside 203.0.113.20 limit 1",
            "-j snat mappings",
            "snat subscriber 10.0.0.7",
            "-br snat sub 10.0.0.7",
            "snat pools",
            "-br snat pools",
        ])
    );
}

#[test]
fn dnat() {
    let text = shown("dnat");
    assert_golden!(
        text + &session(&[
            "-s dnat",
            "dnat show ssh",
            "dnat add ssh --on 203.0.113.20:10106 --protocol tcp --to 172.16.102.6:22",
            "dnat add media on 203.0.113.20:6000-6099 protocol udp to 10.0.0.5:7000-7099",
            "dnat add web --on 203.0.113.20:80 --protocol tcp --to 10.0.0.5:80 --to 10.0.0.6:80 \
             --scheduler rr --source 192.0.2.0/24 --in-dev wan0 --source-address translate \
             --timeout tcp_established=3h",
            "dnat set ssh --source any --in-dev any",
            "dnat set ssh --to 172.16.102.7:22",
            "dnat set web --to 10.0.0.5:80 --to 10.0.0.6:80,weight=2,admin=drain",
            "dnat del ssh",
        ])
    );
}

#[test]
fn dnat_to_several() {
    let daemon = Daemon::answering(|operation, _| {
        Ok(if operation == Operation::DnatGet { web() } else { answer(operation) })
    });
    assert_golden!(session_with(&daemon, &["dnat show web", "-s dnat show web"]));
}

#[test]
fn forwarding() {
    let text = shown("forwarding");
    assert_golden!(
        text + &session(&[
            "forwarding set --policy drop --reverse-path strict --silent wan0,office",
            "forwarding rule add lan --in-dev lan0 --source 10.0.0.0/8 --action accept",
            "forwarding rule add smb destination-ports 445 protocol tcp action reject before lan",
            "forwarding rule set smb --action drop",
            "forwarding rule set smb --position 2",
            "forwarding rule del smb",
        ])
    );
}

#[test]
fn conn() {
    let text = shown("conn list");
    assert_golden!(
        text + &session(&[
            "-s conn",
            "conn --service shop",
            "conn list --service shop --client 192.0.2.0/24 --server 198.18.0.121:80 \
         --state established --limit 5",
            "conn list vip 203.0.113.10:80 lip 198.18.0.10 protocol tcp worker 0",
            "conn list -6",
            "conn del --client 192.0.2.7",
            "-j conn del --service shop",
        ])
    );
}

#[test]
fn stats() {
    assert_golden!(shown("stats") + &session(&["stats --interval 1ms --count 2"]));
}

#[test]
fn counters() {
    let text = shown("counters");
    assert_golden!(text + &session(&["counters --nonzero", "counters show --worker 1"]));
}

#[test]
fn worker() {
    assert_golden!(shown("worker") + &session(&["-s worker"]));
}

#[test]
fn explain() {
    assert_golden!(session(&[
        "explain --in wan0 --from 192.0.2.1:40000 --to 203.0.113.10:80 --protocol tcp --flags syn",
        "explain in wan0 from 192.0.2.1 to 203.0.113.10:80",
        "-br explain in wan0 from 192.0.2.1 to 203.0.113.10 protocol icmp ttl 1 payload 1400",
        "-j explain in wan0 from 192.0.2.1 to 203.0.113.10:80 flags SA",
    ]));
}

#[test]
fn configuration() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.yaml");
    std::fs::write(&file, "services: {}\n").unwrap();
    let file = file.to_str().unwrap();
    let text = session(&[
        "export",
        "config show",
        "config save",
        "-j config save",
        "diff",
        "-j diff",
        &format!("diff -f {file} --prune"),
        &format!("apply -f {file}"),
        &format!("apply -f {file} --prune --dry-run"),
        &format!("-p apply --file={file}"),
    ]);
    assert_golden!(text.replace(file, "shop.yaml"));
}

#[test]
fn log_and_version() {
    assert_golden!(session(&["log", "log level debug", "-j log", "version", "-p version"]));
}

#[test]
fn help() {
    assert_golden!(session(&[
        "help",
        "help lip",
        "help server set",
        "-V",
        "service add -h",
        "conn list --help",
    ]));
}
