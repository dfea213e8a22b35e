//! Proves that a real server can learn its client's address: the packets that carry TCP option 254 are
//! those that DPVS puts it on, and its bytes are the client's port and address.
//!
//! That is: not on the SYN; on the ACK that completes the handshake and on the client's segments until
//! the server's first data is acknowledged; not after that, and never on RST. The MSS that the client is
//! told leaves room for it.

use std::io::{Read, Write};

use crate::common::{
    Arm, Capture, Captured, Daemon, Lab, Load, abort, accept_one, connect, listen,
};

/// Options of the packets from the balancer to the server that `filter` selects.
fn options(captured: &Captured, filter: &str) -> Vec<String> {
    let rows = captured.fields(
        &format!("ip.dst == 198.18.0.121 && tcp.dstport == 80 && {filter}"),
        &["tcp.options"],
    );
    rows.into_iter().map(|mut row| row.swap_remove(0).replace(':', "")).collect()
}

fn exchange(lab: &Lab) -> (String, Captured, Captured) {
    let mut config = lab.config();
    config["services"]["web"]["servers"] = serde_json::json!([{ "address": "198.18.0.121:80" }]);
    let listener = listen(&lab.servers[0], "198.18.0.121:80");
    let daemon = Daemon::start(lab, &config);
    let at_server = Capture::start(lab, &lab.servers[0], "eth0", "tcp");
    let at_client = Capture::start(lab, &lab.client, "eth0", "tcp");

    let mut client = connect(&lab.client, &format!("{}:80", lab.vip())).unwrap();
    let (mut server, peer) = accept_one(&listener);
    let mut buffer = [0; 16];
    client.write_all(b"first").unwrap();
    server.read_exact(&mut buffer[..5]).unwrap();
    client.write_all(b"second").unwrap();
    server.read_exact(&mut buffer[..6]).unwrap();
    server.write_all(b"answer").unwrap();
    client.read_exact(&mut buffer[..6]).unwrap();
    client.write_all(b"third").unwrap();
    server.read_exact(&mut buffer[..5]).unwrap();
    let port = client.local_addr().unwrap().port();
    assert_ne!(peer.port(), 0);
    abort(client);
    let captures = (at_server.stop(), at_client.stop());
    drop(server);
    daemon.stop();
    let address: std::net::Ipv4Addr = lab.client_address().parse().unwrap();
    let toa = format!("fe08{port:04x}{:08x}", address.to_bits());
    (toa, captures.0, captures.1)
}

#[test]
fn option_254_is_where_dpvs_puts_it() {
    for arm in [Arm::Two, Arm::One] {
        let Some(lab) = Lab::new(arm, Load::Light) else { return };
        let (toa, at_server, at_client) = exchange(&lab);
        let first = |filter: &str| options(&at_server, filter).first().cloned();

        assert!(!options(&at_server, "tcp.flags.syn == 1").concat().contains("fe08"));
        let handshake = first("tcp.flags.syn == 0 && tcp.len == 0").expect("the third ACK");
        assert!(handshake.starts_with(&toa), "{handshake} does not begin with {toa}");
        for text in ["first", "second"] {
            let data = first(&format!("tcp contains \"{text}\"")).expect("a segment");
            assert!(data.starts_with(&toa), "{text}: {data} does not begin with {toa}");
        }
        let late = first("tcp contains \"third\"").expect("a segment");
        assert!(!late.contains("fe08"), "after the acknowledged answer: {late}");
        assert!(!options(&at_server, "tcp.flags.reset == 1").concat().contains("fe08"));
        // Timestamps pass, so that PAWS and RTT measurement work end to end.
        assert!(late.contains("080a"), "{late}");

        let mss = |captured: &Captured, filter: &str| -> u32 {
            let rows = captured.fields(filter, &["tcp.options.mss_val"]);
            rows[0][0].parse().unwrap()
        };
        let syn_ack = "tcp.flags.syn == 1 && tcp.flags.ack == 1";
        assert_eq!(mss(&at_server, syn_ack), 1460);
        assert_eq!(mss(&at_client, syn_ack), 1460 - 8);
        at_server.assert_checksums();
    }
}

#[test]
fn a_service_may_keep_the_address_to_itself() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut config = lab.config();
    config["services"]["web"]["client_address"] = "none".into();
    let listener = listen(&lab.servers[0], "198.18.0.121:80");
    let daemon = Daemon::start(&lab, &config);
    let capture = Capture::start(&lab, &lab.servers[0], "eth0", "tcp");
    let mut client = connect(&lab.client, &format!("{}:80", lab.vip())).unwrap();
    let (mut server, _) = accept_one(&listener);
    client.write_all(b"hello").unwrap();
    server.read_exact(&mut [0; 5]).unwrap();
    drop((client, server));
    assert_eq!(options(&capture.stop(), "tcp.options contains fe:08").len(), 0);
    daemon.stop();
}
