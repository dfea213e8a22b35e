//! A question to a name server.

use config::DnsRecord;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

use super::{Answer, Fault, Target, socket};

/// The largest answer over UDP without extensions (RFC 1035 §4.2.1) fits many times.
const ANSWER_MAX: usize = 4_096;

pub(super) async fn ask(target: &Target) -> Answer {
    let socket = socket::datagrams(target).await?;
    // The kernel chose the port at random; that and the server's address tell an answer from a forged one.
    let id = socket.local_addr()?.port();
    socket.send(&question(target, id)?).await?;
    let mut answer = vec![0; ANSWER_MAX];
    loop {
        let len = socket.recv(&mut answer).await?;
        let read = Packet::parse(answer.get(..len).unwrap_or_default());
        let read = read.map_err(|error| Fault::server(format!("no DNS: {error}")))?;
        if read.id() != id || !read.has_flags(PacketFlag::RESPONSE) {
            continue;
        }
        return match read.rcode() {
            RCODE::NoError => Ok(format!("answered, {} records", read.answers.len())),
            code => Err(Fault::server(format!("the server answers {code:?}"))),
        };
    }
}

fn question(target: &Target, id: u16) -> Result<Vec<u8>, Fault> {
    let wrong = |error: simple_dns::SimpleDnsError| Fault::Local(error.to_string());
    let name = target.check.name.as_deref().unwrap_or(".");
    let name = Name::new(name.trim_end_matches('.')).map_err(wrong)?;
    let kind = match target.check.record.unwrap_or(DnsRecord::Soa) {
        DnsRecord::A => TYPE::A,
        DnsRecord::Aaaa => TYPE::AAAA,
        DnsRecord::Ns => TYPE::NS,
        DnsRecord::Cname => TYPE::CNAME,
        DnsRecord::Soa => TYPE::SOA,
        DnsRecord::Mx => TYPE::MX,
        DnsRecord::Txt => TYPE::TXT,
    };
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().map_err(wrong)
}
