//! Proves that frames which no honest host sends end with the counter that names them, and nothing else
//! happens: truncated at every length, garbage, oversized, lying about their length, wrong header
//! checksum, impossible source. A wrong TCP checksum goes through and stays wrong; a UDP checksum of 0
//! stays 0. Afterwards no buffer is missing and the service works.

use std::time::Duration;

use serde_json::json;
use testkit::{Ledger, PacketBuilder, pkt};

use crate::common::{Arm, Capture, Daemon, Injector, Lab, Load, Nginx, http_get, wait_until};

/// The client's side, byte by byte.
struct Wire<'l> {
    lab: &'l Lab,
    daemon: Daemon<'l>,
    injector: Injector,
    client: String,
    balancer: String,
}

impl<'l> Wire<'l> {
    fn open(lab: &'l Lab) -> Self {
        let mut config = lab.config();
        config["services"]["echo"] = json!({
            "vips": [format!("{}:7", lab.vip())],
            "protocol": "udp",
            "servers": [{ "address": "198.18.0.121:7" }],
            "local_pool": "lan",
        });
        let daemon = Daemon::start(lab, &config);
        // Both sides know each other: no ARP while frames are counted.
        http_get(&lab.client, &lab.url("/"));
        http_get(&lab.client, &lab.url("/"));
        Self {
            lab,
            daemon,
            injector: Injector::start(lab, &lab.client, "eth0"),
            client: lab.client.mac("eth0"),
            balancer: lab.balancer.mac("wan0"),
        }
    }

    fn packet(&self) -> PacketBuilder {
        pkt()
            .eth(&self.client[..], &self.balancer[..])
            .ipv4(self.lab.client_address(), self.lab.vip())
    }

    fn syn(&self) -> PacketBuilder {
        self.packet().tcp(40_000, 80).syn().seq(1000).mss(1460)
    }

    fn drops(&self) -> Ledger {
        let counters = self.daemon.ctl.json(&["counters"]);
        let counters = counters.as_array().unwrap().iter();
        let all = counters.map(|counter| {
            (counter["name"].as_str().unwrap().to_owned(), counter["value"].as_u64().unwrap())
        });
        Ledger::of(all.filter(|(name, _)| name.starts_with("drop.")))
    }

    fn received(&self) -> u64 {
        self.daemon.ctl.json(&["stats"])["ledger"]["received"].as_u64().unwrap()
    }

    /// Sends frames and waits until all were seen. Fragments do not belong among them: the kernel's
    /// packet socket puts them together before DPDK sees them.
    #[track_caller]
    fn send(&self, frames: impl IntoIterator<Item = Vec<u8>>) {
        let before = self.received();
        let count = self.inject(frames);
        wait_until("all frames are received", Duration::from_secs(3), || {
            self.received() >= before + count
        });
    }

    /// Sends frames; how many.
    fn inject(&self, frames: impl IntoIterator<Item = Vec<u8>>) -> u64 {
        frames.into_iter().map(|frame| self.injector.send(&frame)).count() as u64
    }

    /// Sends one frame, which must end so and not otherwise.
    #[track_caller]
    fn ends(&self, frame: Vec<u8>, verdict: &str) {
        let mut before = self.drops();
        self.send([frame]);
        self.drops().expect(&mut before, &format!("{verdict}+1"));
    }
}

#[test]
fn each_kind_of_wrong_has_its_counter() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let _nginx = Nginx::start_all(&lab);
    let wire = Wire::open(&lab);
    let (vip, us) = (lab.vip(), "203.0.113.2");

    wire.ends(wire.syn().ether_type(0x88cc).frame(), "drop.unknown-ethertype");
    wire.ends(wire.syn().eth(&wire.client[..], "02:00:00:00:00:99").frame(), "drop.other-station");
    wire.ends(wire.syn().ip_version(6).frame(), "drop.bad-ip-header");
    wire.ends(wire.syn().ip_header_words(4).frame(), "drop.bad-ip-header");
    wire.ends(wire.syn().ip_total_len(1000).frame(), "drop.bad-ip-header");
    wire.ends(wire.syn().ip_total_len(19).frame(), "drop.bad-ip-header");
    wire.ends(wire.syn().bad_ip_checksum().frame(), "drop.bad-ip-checksum");
    for source in ["127.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", vip, us] {
        wire.ends(wire.syn().ipv4(source, vip).frame(), "drop.bad-source");
    }
    let loose_source_route = [131, 7, 4, 192, 0, 2, 1];
    wire.ends(wire.syn().ip_options(&loose_source_route).frame(), "drop.source-routed");
    wire.ends(wire.syn().tcp_header_words(4).frame(), "drop.bad-transport");
    wire.ends(wire.syn().tcp_header_words(15).frame(), "drop.bad-transport");
    let datagram = || wire.packet().udp(40_000, 7).payload(b"hello");
    wire.ends(datagram().udp_len(7).frame(), "drop.bad-transport");
    wire.ends(datagram().udp_len(200).frame(), "drop.bad-transport");
    wire.ends(wire.packet().protocol(47).payload(b"gre").frame(), "drop.unknown-protocol");
    wire.ends(wire.syn().ipv4("203.0.113.100", "203.0.113.77").frame(), "drop.not-ours");
    let stray = || wire.packet().ipv4("203.0.113.100", vip).udp(9, 40_000).payload(b"x");
    wire.ends(
        wire.packet().icmp(3, 3, 0).quote(&stray().ipv4(vip, "203.0.113.100")).frame(),
        "drop.icmp-no-conn",
    );
    wire.ends(wire.packet().icmp(3, 3, 0).quote(&stray()).bad_checksum().frame(), "drop.bad-icmp");

    assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs"));
    wire.daemon.stop();
}

#[test]
fn truncated_and_random_frames_do_no_harm() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let _nginx = Nginx::start_all(&lab);
    let wire = Wire::open(&lab);
    let opened = wire.daemon.conns_opened();
    let whole = [
        wire.syn().timestamps(1, 0).frame(),
        wire.packet().udp(40_000, 7).payload(b"hello").frame(),
        wire.packet().icmp(3, 3, 0).quote(&wire.syn()).frame(),
        wire.packet().arp_request("203.0.113.100", lab.vip()).frame(),
    ];
    for frame in &whole {
        // One byte less than whole, down to the bare Ethernet header.
        wire.send((14..frame.len()).map(|len| frame[..len].to_vec()));
    }
    // Garbage behind a right Ethernet header, and right frames with one byte changed.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..20 {
        let frames: Vec<Vec<u8>> = (0..100)
            .map(|index| {
                let mut frame = whole[index % whole.len()].clone();
                if index % 2 == 0 {
                    let at = random() as usize % frame.len();
                    // Not the field of fragments.
                    if !(20..22).contains(&at) {
                        frame[at] ^= random() as u8 | 1;
                    }
                } else {
                    frame.truncate(14);
                    frame.extend((0..random() % 1400).map(|_| random() as u8));
                }
                frame
            })
            .collect();
        wire.send(frames);
    }
    // Larger than any buffer: jumbo frames on a link that is told to carry them.
    for (namespace, interface) in [(&lab.client, "eth0"), (&lab.balancer, "wan0")] {
        namespace.ip(&["link", "set", interface, "mtu", "9000"]);
    }
    wire.send((0..10).map(|n| wire.syn().payload_len(1500 + 700 * n).frame()));

    assert!(wire.daemon.conns_opened() - opened < 500, "few of them are a SYN or a datagram");
    assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs"));
    wire.daemon.stop();
}

#[test]
fn wrong_checksums_stay_wrong_and_none_stays_none() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let _nginx = Nginx::start_all(&lab);
    let wire = Wire::open(&lab);
    let captures =
        [0, 1].map(|index| Capture::start(&lab, &lab.servers[index], "eth0", "tcp or udp"));
    wire.send([wire.syn().bad_checksum().frame()]);
    wire.send([wire.packet().udp(40_000, 7).payload(b"hello").no_checksum().frame()]);
    let [first, second] = captures.map(Capture::stop);
    let wrong = "tcp.flags.syn == 1 && tcp.checksum.status == \"Bad\"";
    assert_eq!(first.count(wrong) + second.count(wrong), 1, "it arrived, and it is wrong");
    let replies = "tcp.flags.syn == 1 && tcp.flags.ack == 1";
    assert_eq!(first.count(replies) + second.count(replies), 0, "so the server did not answer");
    assert_eq!(first.count("udp.dstport == 7 && udp.checksum == 0"), 1);
    wire.daemon.stop();
}
