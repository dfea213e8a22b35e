//! Proves of the lab itself that
//! - without a daemon nothing passes between client and servers: the kernel has no address on the
//!   balancer's interfaces, forwards nothing and translates nothing;
//! - an injected frame arrives byte for byte, also one that no kernel would send;
//! - a lab leaves nothing behind.

use std::process::Command;

use crate::common::{Arm, Capture, Injector, Lab, Load, Nginx, curl, run};

#[test]
fn without_a_daemon_nothing_passes() {
    for arm in [Arm::Two, Arm::One] {
        let Some(lab) = Lab::new(arm, Load::Light) else { return };
        let nginx = Nginx::start_all(&lab);
        let refused = curl(&lab.client, &["--max-time", "1", &lab.url("/")]);
        assert_ne!(refused.code, 0, "{refused:?}");
        assert_eq!(nginx[0].requests(), Vec::<String>::new());

        let balancer = &lab.balancer;
        assert_eq!(balancer.ip(&["-4", "addr", "show", "scope", "global"]), "");
        assert_eq!(balancer.run("sysctl", &["-n", "net.ipv4.ip_forward"]).ok().stdout, "0\n");
        assert_eq!(balancer.run("nft", &["list", "ruleset"]).ok().stdout, "");
    }
}

#[test]
fn injected_frames_arrive_as_they_are() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let capture = Capture::start(&lab, &lab.balancer, "wan0", "ether proto 0x88b5");
    let injector = Injector::start(&lab, &lab.client, "eth0");
    let frame = |len: usize| {
        let mut frame = vec![0xff; 12];
        frame.extend([0x88, 0xb5]);
        frame.extend((0..len).map(|n| n as u8));
        frame
    };
    for len in [0, 1, 45, 1500] {
        injector.send(&frame(len));
    }
    let lengths = capture.stop().fields("eth", &["frame.len", "eth.type"]);
    let expected: Vec<_> =
        [14, 15, 59, 1514].map(|len| vec![len.to_string(), "0x88b5".to_owned()]).into();
    assert_eq!(lengths, expected);
}

#[test]
fn a_lab_leaves_nothing() {
    let Some(lab) = Lab::new(Arm::One, Load::Light) else { return };
    let (dir, name) = (lab.dir.clone(), lab.client.name().to_owned());
    drop(lab);
    assert!(!dir.exists());
    let list = run(Command::new("ip").args(["netns", "list"])).ok().stdout;
    assert!(!list.contains(&name), "{list}");
}
