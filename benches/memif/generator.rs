//! Clients and servers in one loop: a fixed number of packets goes round, each answer becoming the
//! next request.

use std::io::{Write, stdin, stdout};
use std::time::{Duration, Instant};

use dpdk::{Mbuf, Mempool, TxQueue};
use types::{BURST_MAX, Packet};

use super::{Failure, Interfaces, Orders, Sides};
use crate::bed::{LAN, WAN};
use crate::stats::Samples;
use crate::traffic::{Fields, Form, LEN, Random, Side, Template};

/// Packets under way: four bursts each way, so that neither side waits for the other.
const WINDOW: usize = 512;
/// After so long without a packet those under way count as lost.
const STALL: Duration = Duration::from_millis(100);

/// What goes round.
struct Circle {
    sides: Sides,
    pool: Mempool,
    template: Template,
    burst: [Option<Mbuf>; BURST_MAX],
    under_way: usize,
    lost: u64,
    answers: u64,
    last: Instant,
}

/// Opens the conns, then measures: prints `begin`, later `end`, Mpps and the packets lost.
pub fn run(orders: &Orders, cpu: u16) -> Result<(), Failure> {
    let mut interfaces = Interfaces::open(&orders.directory, "server", cpu, &[])?;
    interfaces.connect()?;
    let mut circle = Circle {
        sides: Sides::claim(std::mem::take(&mut interfaces.tickets))?,
        pool: interfaces.pool.clone(),
        template: Template::udp(Side::Client),
        burst: [const { None }; BURST_MAX],
        under_way: 0,
        lost: 0,
        answers: 0,
        last: Instant::now(),
    };
    let mut next = 0..orders.conns;
    while circle.turn(|| next.next()) {}
    let mut random = Random::new();
    let mut turns = |circle: &mut Circle, time: Duration| {
        let (start, before) = (Instant::now(), circle.answers);
        while start.elapsed() < time {
            for _ in 0..64 {
                circle.turn(|| Some(random.below(orders.conns)));
            }
        }
        (circle.answers - before) as f64 / start.elapsed().as_secs_f64()
    };
    turns(&mut circle, Duration::from_millis(500));
    circle.lost = 0;
    say("begin")?;
    let mut samples = Samples::default();
    for _ in 0..orders.seconds {
        // Two packets go through for each answer.
        samples.add(2e-6 * turns(&mut circle, Duration::from_secs(1)));
    }
    say(&format!("end {} {}", samples.median(), circle.lost))?;
    while circle.turn(|| None) {}
    // testpmd does not outlive its counterpart, so that one goes first.
    stdin().read_line(&mut String::new())?;
    Ok(())
}

fn say(line: &str) -> std::io::Result<()> {
    println!("{line}");
    stdout().flush()
}

impl Circle {
    /// One round of both sides; `next` gives the conn of the next request. False if nothing is under
    /// way any more and there is no next.
    fn turn(&mut self, mut next: impl FnMut() -> Option<u32>) -> bool {
        let server = &mut self.sides.0[LAN];
        let count = server.0.receive(&mut self.burst);
        for packet in self.burst.iter_mut().take(count).flatten() {
            echo(packet.bytes_mut());
        }
        send(&mut server.1, &mut self.burst[..count]);
        let client = &mut self.sides.0[WAN];
        let answers = client.0.receive(&mut self.burst);
        self.answers += answers as u64;
        self.under_way = self.under_way.saturating_sub(answers);
        if count + answers > 0 {
            self.last = Instant::now();
        } else if self.under_way > 0 && self.last.elapsed() > STALL {
            self.lost += self.under_way as u64;
            self.under_way = 0;
        }
        let room = (WINDOW - self.under_way).min(BURST_MAX);
        let mut filled = 0;
        for place in self.burst.iter_mut().take(room) {
            let Some(conn) = next() else { break };
            let Some(packet) = request(place.take(), &self.pool, &self.template, conn) else {
                break;
            };
            *place = Some(packet);
            filled += 1;
        }
        // What was received beyond the window is freed.
        self.burst[filled..].fill_with(|| None);
        send(&mut client.1, &mut self.burst[..filled]);
        self.under_way += filled;
        self.under_way > 0
    }
}

/// The next request, in the memory of an answer if there is one.
#[inline]
fn request(old: Option<Mbuf>, pool: &Mempool, template: &Template, conn: u32) -> Option<Mbuf> {
    let mut packet = match old.filter(|packet| packet.bytes().len() == LEN) {
        Some(packet) => packet,
        None => {
            let mut packet = pool.allocate()?;
            packet.append(LEN).then_some(())?;
            packet
        }
    };
    template.write(packet.bytes_mut(), &Fields::request(Form::FullNat, conn));
    Some(packet)
}

/// Turns a packet round, as a server does that answers with what it got.
#[inline]
fn echo(frame: &mut [u8]) {
    let Some(frame) = frame.first_chunk_mut::<LEN>() else { return };
    swap::<6>(frame, 0, 6);
    swap::<4>(frame, 26, 30);
    swap::<2>(frame, 34, 36);
}

#[inline]
fn swap<const N: usize>(frame: &mut [u8; LEN], a: usize, b: usize) {
    for n in 0..N {
        frame.swap(a + n, b + n);
    }
}

/// Sends all of them, waiting for room in the ring.
#[inline]
fn send(queue: &mut TxQueue, packets: &mut [Option<Mbuf>]) {
    let mut sent = 0;
    while let Some(rest) = packets.get_mut(sent..).filter(|rest| !rest.is_empty()) {
        sent += queue.transmit(rest);
    }
}
