//! The grid of sessions that CSIT opens through NAT44: so many hosts, 63 ports of each. A session is opened, then
//! one packet goes each way.

use types::Verdict;

use crate::bed::{BedConfig, LAN, WAN};
use crate::lab::{CHUNK, Lab};
use crate::report::Report;
use crate::stats::{Samples, to_ns};
use crate::traffic::{Answer, Fields, Form, Side, Template, destination};

/// Ports of a host.
pub const PORTS: u32 = 63;

/// Opens and forwards all sessions of so many hosts. Panics if one is not opened, or a packet lost or sent to
/// another than it is for.
pub fn measure(report: &mut Report, hosts: u32) {
    let form = Form::Grid { hosts };
    let sessions = hosts * PORTS;
    let mut lab = Lab::new(&BedConfig { form, ..BedConfig::new(sessions) });
    let mut answers = vec![Answer::default(); sessions as usize];
    let opening = requests(&mut lab, &mut answers);
    assert_eq!(lab.worker.core.table.len(), sessions, "all sessions are open");
    let mappings = lab.worker.core.nat.as_ref().map(|nat| nat.mappings().len());
    assert_eq!(mappings, Some(sessions), "each has a mapping");
    let forwarding = [requests(&mut lab, &mut answers), replies(&mut lab, &answers)];
    assert_eq!(lab.worker.core.table.len(), sessions, "all sessions are still open");
    let values = lab.worker.core.counters.values();
    let dropped: u64 =
        Verdict::ALL.iter().filter(|v| v.is_drop()).map(|verdict| values.verdict(*verdict)).sum();
    assert_eq!(dropped, 0, "nothing is dropped");
    // Millions in a second, of packets in chunks.
    let rate = |cycles: f64| CHUNK as f64 / to_ns(cycles) * 1e3;
    let [there, back] = forwarding.map(|cycles| cycles.undisturbed_mean());
    let name = format!("path/snat44-sessions/{sessions}");
    report.add(&format!("{name}/open"), rate(opening.undisturbed_mean()), "million/s");
    report.add(&format!("{name}/forward"), rate((there + back) / 2.0), "Mpps");
}

/// A packet from the inside of each session; the cycles of each chunk.
fn requests(lab: &mut Lab, answers: &mut [Answer]) -> Samples {
    let (form, template) = (lab.form, Template::udp(Side::Client));
    let mut cycles = Samples::default();
    for (n, answers) in answers.chunks_mut(CHUNK).enumerate() {
        for ident in 0..answers.len() {
            let conn = (n * CHUNK + ident) as u32;
            lab.put(WAN, &template, &Fields { ident: ident as u16, ..Fields::request(form, conn) });
        }
        cycles.add(lab.run() as f64);
        lab.collect(LAN, |ident, frame| {
            let answer = &mut answers[usize::from(ident)];
            let known = *answer;
            *answer = Answer::default();
            answer.learn(frame);
            assert!(known.lport == 0 || known == *answer, "a session keeps its WAN IP and port");
        });
        lab.all_through();
    }
    cycles
}

/// An answer to each session; the cycles of each chunk.
fn replies(lab: &mut Lab, answers: &[Answer]) -> Samples {
    let (form, template) = (lab.form, Template::udp(Side::Server));
    let mut cycles = Samples::default();
    for (n, answers) in answers.chunks(CHUNK).enumerate() {
        for (ident, answer) in answers.iter().enumerate() {
            lab.put(LAN, &template, &Fields { ident: ident as u16, ..Fields::reply(*answer) });
        }
        cycles.add(lab.run() as f64);
        lab.collect(WAN, |ident, frame| {
            let conn = (n * CHUNK) as u32 + u32::from(ident);
            assert_eq!(destination(frame), form.client(conn), "the answer is the session's");
        });
        lab.all_through();
    }
    cycles
}
