//! TCP conns that open and close beside many others that stay.

use types::Proto;

use crate::allocations;
use crate::bed::BedConfig;
use crate::established::{Conns, exchange, from_client, from_server};
use crate::lab::{CHUNK, Lab};
use crate::stats::{Samples, to_ns};
use crate::traffic::{Answer, Form, Side, Tcp, Template};

/// How long a closed conn stays, in ms: so many conns are in the table besides as one opens in that time.
pub const CLOSED_MS: u32 = 1_000;
/// Packets of a conn.
pub const PACKETS: usize = 7;
/// Numbers of conns come round after so many.
const NUMBERS: u32 = 8 << 20;

/// The templates of the packets.
struct Templates {
    syn: Template,
    syn_ack: Template,
    ack: Template,
    fin: Template,
    server_ack: Template,
    server_fin: Template,
}

/// Conns that come and go.
pub struct Churn {
    templates: Templates,
    first: u32,
    next: u32,
}

/// What it cost.
#[derive(Debug, Default)]
pub struct Measured {
    /// ns for a conn with all its packets and its expiry.
    pub open_close: Samples,
    /// ns for a SYN that opens one.
    pub open: Samples,
    /// Allocations on the path.
    pub allocations: u64,
}

/// A table for `conns` conns that stay, and those that come and go.
pub fn lab_for(form: Form, conns: u32) -> Lab {
    let mut config = BedConfig { form, ..BedConfig::new(conns + 3_000_000) };
    config.timeouts.tcp_closed_ms = CLOSED_MS;
    Lab::new(&config)
}

impl Churn {
    /// Beside conns 0 to `conns`.
    pub fn beside(conns: u32) -> Self {
        let client = |what| Template::tcp(Side::Client, what);
        let server = |what| Template::tcp(Side::Server, what);
        let templates = Templates {
            syn: client(Tcp::Syn),
            syn_ack: server(Tcp::SynAck),
            ack: client(Tcp::Ack),
            fin: client(Tcp::FinAck),
            server_ack: server(Tcp::Ack),
            server_fin: server(Tcp::FinAck),
        };
        Self { templates, first: conns, next: 0 }
    }

    /// Opens a chunk of conns, which do not go on; returns the cycles.
    pub fn open(&mut self, lab: &mut Lab) -> u64 {
        let first = self.numbers();
        let (form, answers) = (lab.form, &mut [Answer::default(); CHUNK]);
        exchange(lab, first, answers, &self.templates.syn, |conn, _| from_client(form, conn, 0, 0))
    }

    fn numbers(&mut self) -> u32 {
        let first = self.first + self.next;
        self.next = (self.next + CHUNK as u32) % NUMBERS;
        first
    }

    /// Opens and closes a chunk of conns; returns the cycles for the SYNs and for everything.
    pub fn chunk(&mut self, lab: &mut Lab) -> (u64, u64) {
        let first = self.numbers();
        let (form, answers) = (lab.form, &mut [Answer::default(); CHUNK]);
        let Templates { syn, syn_ack, ack, fin, server_ack, server_fin } = &self.templates;
        let open = exchange(lab, first, answers, syn, |conn, _| from_client(form, conn, 0, 0));
        let rest = [
            exchange(lab, first, answers, syn_ack, |conn, to| from_server(conn, to, 0, 1)),
            exchange(lab, first, answers, ack, |conn, _| from_client(form, conn, 1, 1)),
            exchange(lab, first, answers, fin, |conn, _| from_client(form, conn, 1, 1)),
            exchange(lab, first, answers, server_ack, |conn, to| from_server(conn, to, 1, 2)),
            exchange(lab, first, answers, server_fin, |conn, to| from_server(conn, to, 1, 2)),
            exchange(lab, first, answers, ack, |conn, _| from_client(form, conn, 2, 2)),
        ];
        assert_eq!(rest.len() + 1, PACKETS);
        (open, open + rest.iter().sum::<u64>())
    }
}

/// A lab in which as many conns expire as open.
struct Steady {
    lab: Lab,
    churn: Churn,
    conns: u32,
    measured: Measured,
}

impl Steady {
    fn new(form: Form, others: u32) -> Self {
        let mut lab = lab_for(form, others);
        let _others = Conns::open(&mut lab, Proto::Tcp, others);
        let mut churn = Churn::beside(others);
        let mut passed = 0.0;
        while passed < 1.2e6 * f64::from(CLOSED_MS) {
            passed += to_ns(churn.chunk(&mut lab).1 as f64);
        }
        let conns = lab.worker.core.table.len();
        Self { lab, churn, conns, measured: Measured::default() }
    }

    fn round(&mut self, chunks: usize) {
        let (mut open, mut all) = (Samples::default(), Samples::default());
        for _ in 0..chunks {
            let before = allocations::count();
            let (first, whole) = self.churn.chunk(&mut self.lab);
            self.measured.allocations += allocations::count() - before;
            open.add(first as f64);
            all.add(whole as f64);
        }
        self.measured.open.add(to_ns(open.undisturbed_mean()) / CHUNK as f64);
        self.measured.open_close.add(to_ns(all.undisturbed_mean()) / CHUNK as f64);
    }

    fn finish(self) -> Measured {
        let (first, last) = (self.conns, self.lab.worker.core.table.len());
        let steady = last.abs_diff(first) < first / 2;
        assert!(steady, "as many expire as open: {first} conns, then {last}");
        self.measured
    }
}

/// Measures rounds of all forms alternately, each beside `others` that stay.
pub fn measure<const N: usize>(
    forms: [Form; N],
    others: u32,
    rounds: usize,
    chunks: usize,
) -> [Measured; N] {
    let mut beds = forms.map(|form| Steady::new(form, others));
    for _ in 0..rounds {
        for bed in &mut beds {
            bed.round(chunks);
        }
    }
    beds.map(Steady::finish)
}
