//! Packets of established conns: the table is filled first, then packets of random conns go through.

use types::Proto;

use crate::allocations;
use crate::bed::{BedConfig, LAN, WAN};
use crate::lab::{CHUNK, Lab};
use crate::probe::Probe;
use crate::stats::{Samples, to_ns};
use crate::traffic::{Answer, Fields, Form, Random, Side, Tcp, Template, mix};

/// Established conns, each with what its server knows.
pub struct Conns {
    form: Form,
    answers: Vec<Answer>,
    requests: Template,
    replies: Template,
}

impl Conns {
    /// Opens `count` conns and takes them to where data flows both ways.
    pub fn open(lab: &mut Lab, proto: Proto, count: u32) -> Self {
        let mut answers = vec![Answer::default(); count as usize];
        for (n, answers) in answers.chunks_mut(CHUNK).enumerate() {
            let first = (n * CHUNK) as u32;
            match proto {
                Proto::Tcp => open_tcp(lab, first, answers),
                _ => open_udp(lab, first, answers),
            }
        }
        assert_eq!(lab.conns(), count, "all conns are open");
        let template = |side| match proto {
            Proto::Tcp => Template::tcp(side, Tcp::Data),
            _ => Template::udp_of(lab.form, side),
        };
        let (requests, replies) = (template(Side::Client), template(Side::Server));
        Self { form: lab.form, answers, requests, replies }
    }

    /// Lets a chunk of packets arrive, half of them from clients and half from servers.
    pub fn put_chunk(&self, lab: &mut Lab, random: &mut Random) {
        for n in 0..CHUNK / 2 {
            let conn = random.below(self.answers.len() as u32);
            lab.put(WAN, &self.requests, &self.request(conn, n));
            let conn = random.below(self.answers.len() as u32);
            lab.put(LAN, &self.replies, &self.reply(conn, n));
        }
    }

    fn request(&self, conn: u32, ident: usize) -> Fields {
        let (sequence, ack) = (mix(conn).wrapping_add(1), mix(!conn).wrapping_add(7));
        Fields { ident: ident as u16, sequence, ack, ..Fields::request(self.form, conn) }
    }

    fn reply(&self, conn: u32, ident: usize) -> Fields {
        let answer = self.answers[conn as usize];
        let (sequence, ack) = (mix(!conn).wrapping_add(7), answer.sequence.wrapping_add(7));
        Fields { ident: ident as u16, sequence, ack, ..Fields::reply(answer) }
    }

    /// A round of packets: the cycles of each chunk, and allocations on the path.
    fn round(&self, lab: &mut Lab, chunks: usize, random: &mut Random) -> (Samples, u64) {
        let (mut cycles, mut allocated) = (Samples::default(), 0);
        for _ in 0..chunks {
            self.put_chunk(lab, random);
            let before = allocations::count();
            let taken = lab.run();
            allocated += allocations::count() - before;
            cycles.add(taken as f64);
            for interface in [WAN, LAN] {
                let len = lab.form.len_at(interface);
                lab.collect(interface, |_, frame| assert_eq!(frame.len(), len));
            }
            lab.all_through();
        }
        (cycles, allocated)
    }

    /// Memory of what is known of them here, in bytes.
    pub fn bytes(&self) -> u64 {
        size_of_val(self.answers.as_slice()) as u64
    }
}

/// Measures rounds of packets of each form in turn, then a round of the probe.
pub fn measure(
    forms: &[Form],
    (proto, conns): (Proto, u32),
    rounds: usize,
    chunks: usize,
) -> Measured {
    let mut random = Random::new();
    let mut beds: Vec<_> = forms
        .iter()
        .map(|form| {
            let mut lab = lab_for(*form, conns);
            let filled = Conns::open(&mut lab, proto, conns);
            filled.put_chunk(&mut lab, &mut random);
            lab.run();
            lab.collect_checked();
            (lab, filled, Samples::default())
        })
        .collect();
    let max = beds.iter().map(|(lab, ..)| lab.worker.core.table.max_connections()).max();
    let mut probe = Probe::new(max.unwrap_or(conns), conns);
    let (mut probed, mut allocations) = (Samples::default(), 0);
    let each = |cycles: &Samples| to_ns(cycles.undisturbed_mean()) / CHUNK as f64;
    for round in 0..=rounds {
        // The first round warms up.
        for (lab, filled, path) in &mut beds {
            let (cycles, allocated) = filled.round(lab, chunks, &mut random);
            allocations += allocated;
            if round > 0 {
                path.add(each(&cycles));
            }
        }
        let cycles = probe.round(chunks, &mut random);
        if round > 0 {
            probed.add(each(&cycles));
        }
    }
    let paths = beds.into_iter().map(|(_, _, path)| path).collect();
    Measured { paths, probe: probed, allocations }
}

/// What a run of rounds gave.
pub struct Measured {
    /// ns for a packet, by form.
    pub paths: Vec<Samples>,
    /// ns for an access to two lines.
    pub probe: Samples,
    /// Allocations on the path.
    pub allocations: u64,
}

/// A table with room for this many conns, the default at least.
fn lab_for(form: Form, conns: u32) -> Lab {
    Lab::new(&BedConfig { form, ..BedConfig::new(conns.max(1_000_000)) })
}

fn open_udp(lab: &mut Lab, first: u32, answers: &mut [Answer]) {
    let form = lab.form;
    let template = |side| Template::udp_of(form, side);
    let (request, reply) = (template(Side::Client), template(Side::Server));
    exchange(lab, first, answers, &request, |conn, _| Fields::request(form, conn));
    exchange(lab, first, answers, &reply, |_, answer| Fields::reply(answer));
}

fn open_tcp(lab: &mut Lab, first: u32, answers: &mut [Answer]) {
    let form = lab.form;
    let client = |what| Template::tcp(Side::Client, what);
    let server = |what| Template::tcp(Side::Server, what);
    exchange(lab, first, answers, &client(Tcp::Syn), |conn, _| from_client(form, conn, 0, 0));
    exchange(lab, first, answers, &server(Tcp::SynAck), |conn, answer| {
        from_server(conn, answer, 0, 1)
    });
    exchange(lab, first, answers, &client(Tcp::Ack), |conn, _| from_client(form, conn, 1, 1));
    exchange(lab, first, answers, &server(Tcp::Data), |conn, answer| {
        from_server(conn, answer, 1, 1)
    });
    // Only now is the server's first data acknowledged, and the client's address shown no more.
    exchange(lab, first, answers, &client(Tcp::Ack), |conn, _| from_client(form, conn, 1, 7));
}

/// A client's TCP packet; both numbers are counted from where the sides began.
pub fn from_client(form: Form, conn: u32, sequence: u32, ack: u32) -> Fields {
    let sequence = mix(conn).wrapping_add(sequence);
    // A SYN acknowledges nothing.
    let ack = if ack == 0 { 0 } else { mix(!conn).wrapping_add(ack) };
    Fields { sequence, ack, ..Fields::request(form, conn) }
}

/// A server's TCP packet, likewise.
pub fn from_server(conn: u32, answer: Answer, sequence: u32, ack: u32) -> Fields {
    let sequence = mix(!conn).wrapping_add(sequence);
    Fields { sequence, ack: answer.sequence.wrapping_add(ack), ..Fields::reply(answer) }
}

/// Lets one packet of each conn go through; what arrives at servers is remembered. Returns the cycles.
pub fn exchange(
    lab: &mut Lab,
    first: u32,
    answers: &mut [Answer],
    template: &Template,
    fields: impl Fn(u32, Answer) -> Fields,
) -> u64 {
    let from = if template.is_from_client() { WAN } else { LAN };
    for (n, answer) in answers.iter().enumerate() {
        let fields = Fields { ident: n as u16, ..fields(first + n as u32, *answer) };
        lab.put(from, template, &fields);
    }
    let cycles = lab.run();
    lab.collect(WAN, |_, _| {});
    lab.collect(LAN, |ident, frame| answers[usize::from(ident)].learn(frame));
    lab.all_through();
    cycles
}
