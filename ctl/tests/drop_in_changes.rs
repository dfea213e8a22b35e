//! What `ipvsadm` and `dpip` ask the daemon to change, and what they refuse.

use api::{ErrorBody, ErrorCode, Operation};
use serde_json::{Value, json};

use crate::daemon::{Daemon, Finished, answer};

/// A daemon that has services of these VIPs, all in one service if `together`.
fn with_services(vips: &'static [&'static str], together: bool) -> Daemon {
    Daemon::answering(move |operation, query| {
        Ok(match operation {
            Operation::ServiceList => {
                let query = query.replace("%3A", ":");
                let asked =
                    |vip: &&&str| query.is_empty() || query.contains(&format!("vip={vip}&"));
                let one = |vip: &&str| {
                    let vips = if together { vips.to_vec() } else { vec![*vip] };
                    json!({
                        "name": "shop", "config": { "vips": vips, "protocol": "tcp" },
                        "servers": [], "lips": [], "traffic": traffic(),
                    })
                };
                vips.iter().filter(asked).map(one).collect()
            }
            Operation::SnatList => json!([]),
            Operation::ConfigGet => json!({ "version": 1 }),
            other => answer(other),
        })
    })
}

/// `ipvsadm` cannot say on which datagrams a header is.
#[test]
fn an_edit_keeps_the_datagrams_that_have_a_header() {
    let daemon = |proxy: Value| {
        Daemon::answering(move |operation, _| {
            Ok(match operation {
                Operation::ServiceList => {
                    let mut config = json!({ "vips": ["10.0.96.204:53"], "protocol": "udp" });
                    config.as_object_mut().unwrap().extend(proxy.as_object().unwrap().clone());
                    json!([{
                        "name": "dns", "config": config, "servers": [], "lips": [],
                        "traffic": traffic(),
                    }])
                }
                Operation::SnatList => json!([]),
                Operation::ConfigGet => json!({ "version": 1 }),
                other => answer(other),
            })
        })
    };
    let first = json!({ "client_address": "proxy-v2", "proxy_protocol": { "datagrams": "first" } });
    for (proxy, option, datagrams) in [
        (json!({ "client_address": "proxy-v2" }), "--proxy-protocol v2", "each"),
        (first.clone(), "--proxy-protocol v2-insecure", "first"),
        (json!({}), "--proxy-protocol v2", "first"),
        (first, "", "each"),
    ] {
        let asked = asks(&daemon(proxy.clone()), &format!("ipvsadm -E -u 10.0.96.204:53 {option}"));
        let says = format!(r#""datagrams":"{datagrams}""#);
        assert!(asked.starts_with("PATCH ") && asked.contains(&says), "{proxy} {option}: {asked}");
    }
}

fn traffic() -> Value {
    json!({
        "active": 0, "inactive": 0, "connections": 0, "in_packets": 0, "in_bytes": 0,
        "out_packets": 0, "out_bytes": 0, "refused": 0,
    })
}

/// The last thing that the daemon was asked by a line that succeeds.
fn asks(daemon: &Daemon, line: &str) -> String {
    let Finished { code, err, .. } = daemon.dpctl(line);
    assert_eq!((code, err.as_str()), (0, ""), "{line}");
    daemon.asked().pop().expect("something was asked")
}

#[test]
fn a_service_is_made_step_by_step() {
    let daemon = with_services(&["10.0.96.204:80"], false);
    for (line, asked) in [
        (
            "ipvsadm -A -t 10.0.96.204:80 -s rr",
            r#"POST /v1/services/tcp-10.0.96.204-80 {"vips":["10.0.96.204:80"],"protocol":"tcp","scheduler":"rr"}"#,
        ),
        (
            "ipvsadm -A -u [2001::201]:53",
            r#"POST /v1/services/udp-2001--201-53 {"vips":["[2001::201]:53"],"protocol":"udp"}"#,
        ),
        (
            "ipvsadm -At 10.0.96.204:80 -s wrr -p 60 -M 255.255.255.0 --conn-timeout 30",
            r#"POST /v1/services/tcp-10.0.96.204-80 {"vips":["10.0.96.204:80"],"protocol":"tcp","scheduler":"wrr","timeouts":{"tcp_established":"30s"},"persistence":{"timeout":"1m","prefix":24}}"#,
        ),
        (
            "ipvsadm -A -t 10.0.96.204:80 --proxy-protocol v1-insecure",
            r#"POST /v1/services/tcp-10.0.96.204-80 {"vips":["10.0.96.204:80"],"protocol":"tcp","client_address":"proxy-v1","proxy_protocol":{"client_header":"trust"}}"#,
        ),
        // DPVS puts it on the first datagram of a conn.
        (
            "ipvsadm -A -u 10.0.96.204:53 --proxy-protocol v2",
            r#"POST /v1/services/udp-10.0.96.204-53 {"vips":["10.0.96.204:53"],"protocol":"udp","client_address":"proxy-v2","proxy_protocol":{"datagrams":"first"}}"#,
        ),
        // Without a port, the real server has the service's.
        (
            "ipvsadm -a -t 10.0.96.204:80 -r 192.168.229.1 -b",
            r#"POST /v1/services/shop/servers/192.168.229.1:80 {"limits":{},"weight":1}"#,
        ),
        (
            "ipvsadm -a -t 10.0.96.204:80 -r 192.168.229.1:8080 -b -w 100 -x 9 -y 5",
            r#"POST /v1/services/shop/servers/192.168.229.1:8080 {"limits":{"lower":5,"upper":9},"weight":100}"#,
        ),
        (
            "ipvsadm -a -t 10.0.96.204:80 -r 192.168.229.1 -m",
            r#"PATCH /v1/services/shop {"mode":"nat","servers":[{"address":"192.168.229.1:80"}]}"#,
        ),
        (
            "ipvsadm -e -t 10.0.96.204:80 -r 192.168.229.1 -b -w 0",
            r#"PATCH /v1/services/shop/servers/192.168.229.1:80 {"limits":{},"weight":0}"#,
        ),
        (
            "ipvsadm -d -t 10.0.96.204:80 -r 192.168.229.1",
            "DELETE /v1/services/shop/servers/192.168.229.1:80",
        ),
        (
            "ipvsadm --add-laddr -z 192.168.229.204 -t 10.0.96.204:80 -F dpdk0",
            r#"POST /v1/services/shop/lips {"addresses":"192.168.229.204","dev":"dpdk0"}"#,
        ),
        (
            "ipvsadm -Q -z 192.168.229.204 -t 10.0.96.204:80 -F dpdk0",
            "DELETE /v1/services/shop/lips/192.168.229.204",
        ),
        (
            "ipvsadm -E -t 10.0.96.204:80 -s wlc",
            r#"PATCH /v1/services/shop {"hash_by":null,"one_packet":false,"persistence":null,"scheduler":"wlc","timeouts":{"tcp_established":null}}"#,
        ),
        (
            "ipvsadm -E -t 10.0.96.204:80 -s wlc --proxy-protocol v2",
            r#"PATCH /v1/services/shop {"client_address":"proxy-v2","hash_by":null,"one_packet":false,"persistence":null,"proxy_protocol":{"client_header":"replace","datagrams":"each"},"scheduler":"wlc","timeouts":{"tcp_established":null}}"#,
        ),
        ("ipvsadm -D -t 10.0.96.204:80", "DELETE /v1/services/shop?connections=drain"),
        ("ipvsadm -Z", "POST /v1/services"),
        (
            "ipvsadm -C",
            r#"POST /v1/config/apply?prune=true&dry_run=false {"services":{},"snat":{}}"#,
        ),
    ] {
        let asked_for = asks(&daemon, line).replace("?connections=drain", "");
        assert_eq!(asked_for, asked.replace("?connections=drain", ""), "{line}");
    }
}

#[test]
fn a_rule_of_source_nat_is_made_step_by_step() {
    let daemon = with_services(&[], false);
    let rule = "-H proto=tcp,src-range=192.168.100.2-192.168.100.100,oif=dpdk0";
    let asked = asks(&daemon, &format!("ipvsadm -A -s rr {rule}"));
    let (request, body) = asked.split_once(" {").unwrap();
    assert_eq!(request, "POST /v1/snat/tcp-from-192.168.100.2-192.168.100.100-oif-dpdk0");
    let body: Value = serde_json::from_str(&format!("{{{body}")).unwrap();
    assert_eq!(
        body,
        json!({
            "match": {
                "source": ["192.168.100.2-192.168.100.100"], "protocol": ["tcp"],
                "out_dev": "dpdk0",
            },
            "action": "drop", "pooling": "arbitrary",
        })
    );
    let daemon = Daemon::answering(move |operation, _| {
        Ok(match operation {
            Operation::SnatList => json!([{
                "name": "office", "position": 1, "config": body, "mappings": 0,
                "traffic": traffic(), "accepted": 0, "dropped": 0, "exhausted": 0, "limited": 0,
                "filtered": 0,
            }]),
            other => answer(other),
        })
    });
    let asked = asks(&daemon, &format!("ipvsadm -a {rule} -r 10.0.0.1:0 -w 100 -J"));
    assert!(asked.starts_with("PUT /v1/snat/office {"), "{asked}");
    assert!(asked.contains(r#""wan_addresses":[{"address":"10.0.0.1","weight":100}]"#), "{asked}");
    assert!(!asked.contains("action"), "it translates now: {asked}");
    let asked = asks(&daemon, &format!("ipvsadm -D {rule}"));
    assert_eq!(asked, "DELETE /v1/snat/office");
    // What exists is refused as DPVS refuses it.
    let again = daemon.dpctl(&format!("ipvsadm -A -s rr {rule}"));
    let line = "[sockopt_msg_recv] errcode set in socket msg#10 header: already exist(-3)";
    assert_eq!((again.code, again.err), (253, format!("{line}\nSuccess\n")));
}

#[test]
fn interfaces_get_addresses_and_routes() {
    let daemon = Daemon::new();
    for (line, asked) in [
        (
            "dpip addr add 10.0.96.204/32 dev dpdk2",
            r#"POST /v1/addresses {"address":"10.0.96.204/32","dev":"dpdk2"}"#,
        ),
        (
            "dpip addr add 10.0.0.1/16 dev dpdk0 sapool",
            r#"POST /v1/addresses {"address":"10.0.0.1/16","dev":"dpdk0"}"#,
        ),
        (
            "dpip addr del 10.0.0.1/16 dev dpdk0",
            "DELETE /v1/addresses?address=10.0.0.1%2F16&dev=dpdk0",
        ),
        (
            "dpip addr set 10.0.0.1/16 dev dpdk0",
            r#"POST /v1/config/apply?prune=false&dry_run=false {"addresses":[{"address":"10.0.0.1/16","dev":"dpdk0"}]}"#,
        ),
        (
            "dpip route add 10.0.96.0/24 dev dpdk2",
            r#"POST /v1/routes {"to":"10.0.96.0/24","dev":"dpdk2"}"#,
        ),
        (
            "dpip route add default via 10.0.96.254 dev dpdk2",
            r#"POST /v1/routes {"to":"default","via":"10.0.96.254","dev":"dpdk2"}"#,
        ),
        (
            "dpip route -6 add default via 2001::1 dev bond2",
            r#"POST /v1/routes {"to":"::/0","via":"2001::1","dev":"bond2"}"#,
        ),
        // The interface is that of the router's subnet.
        (
            "dpip route add 172.0.0.0/16 via 198.18.0.9",
            r#"POST /v1/routes {"to":"172.0.0.0/16","via":"198.18.0.9","dev":"lan0"}"#,
        ),
        (
            "dpip route set 10.1.2.3/8 dev dpdk0 scope host metric 7 mtu 1400 src 10.0.0.1",
            r#"PUT /v1/routes {"to":"10.0.0.0/8","dev":"dpdk0","metric":7,"src":"10.0.0.1","mtu":1400,"type":"local"}"#,
        ),
        ("dpip route del 172.0.0.0/16", "DELETE /v1/routes?to=172.0.0.0%2F16"),
        (
            "dpip neigh add 10.0.0.9 lladdr 00:11:22:33:44:55 dev dpdk0",
            r#"POST /v1/neighbours {"address":"10.0.0.9","mac":"00:11:22:33:44:55","dev":"dpdk0"}"#,
        ),
        ("dpip neigh del 10.0.0.9 dev dpdk0", "DELETE /v1/neighbours?address=10.0.0.9&dev=dpdk0"),
    ] {
        assert_eq!(asks(&daemon, line), asked, "{line}");
    }
}

#[test]
fn what_exists_or_does_not_is_told_as_dpvs_tells_it() {
    let refusing = |code, why: &str| Daemon::refusing(ErrorBody::new(code, why));
    let conflict = refusing(ErrorCode::Conflict, "there is a service `shop`");
    let told = |daemon: &Daemon, line: &str| {
        let finished = daemon.dpctl(line);
        (finished.err, finished.code)
    };
    let header = |number: u8, text: &str| {
        format!("[sockopt_msg_recv] errcode set in socket msg#{number} header: {text}\n")
    };
    assert_eq!(
        told(&conflict, "ipvsadm -A -t 10.0.0.100:80 -s rr"),
        (header(10, "already exist(-3)") + "Success\n", 253)
    );
    assert_eq!(
        told(&conflict, "dpip addr add 10.0.0.100/32 dev dpdk0"),
        (header(47, "already exist(-3)") + "dpip: already exist\n", 1)
    );
    let none = with_services(&[], false);
    assert_eq!(
        told(&none, "ipvsadm -d -t 10.0.0.100:80 -r 192.168.100.2:80"),
        (header(15, "not exist(-4)") + "Success\n", 252)
    );
    assert_eq!(
        told(&none, "ipvsadm -ln -t 10.0.0.100:80"),
        (header(20, "not exist(-4)") + "Success\n", 252)
    );
    // Where DPVS has no words for it, the daemon's are told.
    let other = refusing(ErrorCode::Conflict, "10.0.0.100 is a VIP: it cannot be a LIP too");
    let (text, code) = told(&other, "dpip addr add 10.0.0.100/32 dev dpdk0");
    assert_eq!(code, 1);
    assert!(text.ends_with("\n10.0.0.100 is a VIP: it cannot be a LIP too\n"), "{text}");
    let invalid = refusing(ErrorCode::Invalid, "why");
    assert_eq!(
        told(&invalid, "dpip route add 10.0.0.0/8 dev dpdk0"),
        (header(28, "invalid parameter(-1)") + "why\n", 1)
    );
}

#[test]
fn a_local_address_that_is_one_of_ours_already_is_told_and_added() {
    let daemon = Daemon::answering(|operation, _| {
        Ok(match operation {
            Operation::ServiceList => json!([{
                "name": "shop", "config": { "vips": ["10.0.0.100:53"], "protocol": "udp" },
                "servers": [], "lips": [], "traffic": traffic(),
            }]),
            Operation::AddressList => json!([
                { "address": "192.168.100.200/32", "dev": "dpdk1", "active": "always", "role": "lip" },
            ]),
            other => answer(other),
        })
    });
    let line = "ipvsadm --add-laddr -z 192.168.100.200 -u 10.0.0.100:53 -F dpdk1";
    let finished = daemon.dpctl(line);
    let told = "[sockopt_msg_recv] errcode set in socket msg#47 header: already exist(-3)\n";
    assert_eq!((finished.code, finished.err.as_str()), (0, told));
}

#[test]
fn what_has_no_counterpart_is_refused_by_name() {
    let daemon = with_services(&["10.0.0.100:80"], false);
    for line in [
        "ipvsadm -A -t 10.0.0.100:80 -j enable",
        "ipvsadm -A -t 10.0.0.100:80 -s fo",
        "ipvsadm -A -t 10.0.0.100:80 --pe sip",
        "ipvsadm -A -t 10.0.0.100:80 --dest-check tcp",
        "ipvsadm -A -t 10.0.0.100:80 --expire-quiescent",
        "ipvsadm -A -u 10.0.0.100:80 --quic",
        "ipvsadm -A -u 10.0.0.100:80 -s conhash --hash-target qid",
        "ipvsadm -A -f 1",
        "ipvsadm -A -q 10.0.0.100:0",
        "ipvsadm -A --sctp-service 10.0.0.100:80",
        "ipvsadm -A -t 10.0.0.100",
        "ipvsadm -a -t 10.0.0.100:80 -r 192.168.100.2:80",
        "ipvsadm -a -t 10.0.0.100:80 -r 192.168.100.2:80 -g",
        "ipvsadm -a -t 10.0.0.100:80 -r 192.168.100.2:80 -i",
        "ipvsadm -U -t 10.0.0.100:80 -k 10.1.1.1",
        "ipvsadm -O -t 10.0.0.100:80 -2 ipset:good",
        "ipvsadm -B",
        "ipvsadm -W",
        "ipvsadm --set 900 120 300",
        "ipvsadm -l --timeout",
        "ipvsadm -l --daemon",
        "ipvsadm -l --persistent-conn",
        "ipvsadm --start-daemon master",
        "ipvsadm --stop-daemon master",
        "dpip tunnel add gre1 mode gre local 1.1.1.1 remote 2.2.2.2 dev dpdk0",
        "dpip qsch show dev dpdk0",
        "dpip cls show dev dpdk0",
        "dpip ipset show",
        "dpip lldp show neigh dev dpdk0",
        "dpip flow show type kni dev dpdk0",
        "dpip maddr show",
        "dpip ipv6 show",
        "dpip iftraf show",
        "dpip eal-mem show",
        "dpip vlan add link dpdk0 proto 802.1ad id 100",
        "dpip link set dpdk0 promisc on",
        "dpip link show bond2 status",
        "dpip addr add 10.0.0.1/32 dev dpdk0 valid_lft 60",
        "dpip route add 10.0.0.0/8 dev dpdk0 scope kni_host",
    ] {
        let Finished { code, out, err } = daemon.dpctl(line);
        assert_eq!((code, out.as_str()), (1, ""), "{line}: {err}");
        assert!(err.starts_with("not supported: "), "{line}: {err}");
        let changes = daemon.asked().into_iter().filter(|asked| !asked.starts_with("GET "));
        assert_eq!(changes.count(), 0, "{line}");
    }
    let list = daemon.dpctl("compat");
    assert_eq!(list.code, 0);
    for what in ["-j enable", "tunnel", "link set"] {
        assert!(list.out.contains(what), "{what}");
    }
}

#[test]
fn wrong_options_are_usage_errors() {
    let daemon = with_services(&["10.0.0.100:80"], false);
    for (line, code) in [
        ("ipvsadm -A", 2),
        ("ipvsadm -A -t 10.0.0.100:80 -r 1.1.1.1", 2),
        ("ipvsadm -a -t 10.0.0.100:80", 2),
        ("ipvsadm -a -t 10.0.0.100:80 -r 1.1.1.1 -b -m", 2),
        ("ipvsadm -a -t 10.0.0.100:80 -r 1.1.1.1 -J", 2),
        ("ipvsadm -a -t 10.0.0.100:80 -r 1.1.1.1 -b -w 65536", 2),
        ("ipvsadm -A -t 10.0.0.100:80 -u 10.0.0.100:80", 2),
        ("ipvsadm -A -t 10.0.0:80", 2),
        ("ipvsadm -A -t 10.0.0.100:99999", 2),
        ("ipvsadm -A -t 10.0.0.100:80 -M 255.255.255.0", 2),
        ("ipvsadm -A -t 10.0.0.100:80 -p 0", 2),
        ("ipvsadm -A -t 10.0.0.100:80 -p -M 255.0.255.0", 2),
        ("ipvsadm -A -H proto=tcp", 2),
        ("ipvsadm -P -t 10.0.0.100:80 -z 1.1.1.1", 2),
        ("ipvsadm -l --stats --rate", 2),
        ("ipvsadm -l stray", 2),
        ("ipvsadm -D -t", 255),
        ("ipvsadm -K", 255),
        ("ipvsadm -ln --sockpair", 255),
        ("dpip frobnicate show", 1),
        ("dpip addr add dev dpdk0", 1),
        ("dpip addr add 10.0.0.1/32", 1),
        ("dpip route add 10.0.0.0/8", 1),
        ("dpip -h", 1),
    ] {
        let Finished { code: given, err, .. } = daemon.dpctl(line);
        assert_eq!(given, code, "{line}: {err}");
        assert!(!err.is_empty(), "{line}");
        let changes = daemon.asked().into_iter().filter(|asked| !asked.starts_with("GET "));
        assert_eq!(changes.count(), 0, "{line}");
    }
    for line in ["ipvsadm -h", "ipvsadm -v", "dpip addr help", "dpip -V"] {
        assert_eq!(daemon.dpctl(line).code, 0, "{line}");
    }
    assert!(daemon.dpctl("ipvsadm -v").out.contains("IPVS v1.10.2"));
}

#[test]
fn several_vips_are_not_changed_for_one_of_them() {
    let daemon = with_services(&["10.0.0.100:80", "10.0.0.101:80"], true);
    for line in [
        "ipvsadm -a -t 10.0.0.100:80 -r 1.1.1.1 -b",
        "ipvsadm -d -t 10.0.0.100:80 -r 1.1.1.1",
        "ipvsadm -P -t 10.0.0.100:80 -z 1.1.1.2 -F dpdk0",
    ] {
        let finished = daemon.dpctl(line);
        assert_eq!(finished.code, 1, "{line}: {}", finished.err);
        assert!(finished.err.contains("`shop`"), "{}", finished.err);
    }
    // A weight is that of the server; who else has it is told.
    let finished = daemon.dpctl("ipvsadm -e -t 10.0.0.100:80 -r 1.1.1.1 -b -w 0");
    assert_eq!(finished.code, 0);
    assert!(finished.err.contains("service `shop` of 2 VIPs"), "{}", finished.err);
    daemon.asked();
    assert_eq!(
        asks(&daemon, "ipvsadm -D -t 10.0.0.100:80"),
        r#"PATCH /v1/services/shop {"vips":["10.0.0.101:80"]}"#
    );
}
