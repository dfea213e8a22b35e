//! What would become of a packet.

use api::{Explanation, Operation, PacketDescription, PacketProtocol, Request};

use crate::cli::ExplainArgs;
use crate::error::CtlError;
use crate::output::{Table, details};
use crate::session::{Outcome, Session};

pub(super) fn explain(session: &mut Session<'_>, args: &ExplainArgs) -> Outcome {
    let protocol = match args.protocol.as_str() {
        "udp" => PacketProtocol::Udp,
        "icmp" => PacketProtocol::Icmp,
        _ => PacketProtocol::Tcp,
    };
    let (tcp, icmp) = (protocol == PacketProtocol::Tcp, protocol == PacketProtocol::Icmp);
    if args.flags.is_some() && !tcp {
        return Err(CtlError::usage(format!("--flags: {} has none", args.protocol)));
    }
    match args.to.l4_port {
        None if !icmp => {
            let to = args.to.address;
            return Err(CtlError::usage(format!("--to {to}: no port; write it as in {to}:80")));
        }
        Some(port) if icmp => {
            return Err(CtlError::usage(format!("--to: ICMP has no ports, such as {port}")));
        }
        _ => {}
    }
    let packet = PacketDescription {
        dev: args.dev.clone(),
        protocol,
        source: args.from.address,
        source_port: args.from.l4_port,
        destination: args.to.address,
        destination_port: args.to.l4_port,
        tcp_flags: args.flags.as_ref().map(|flags| flags.0.clone()),
        ttl: args.ttl,
        payload: args.payload,
    };
    let answer: Explanation = session.ask(Request::new(Operation::Explain).json(&packet))?;
    let width = session.width;
    session.print(&answer, |answer, options| {
        if options.brief { format!("{}\n", answer.verdict) } else { text(answer, width) }
    })
}

fn text(answer: &Explanation, width: Option<u16>) -> String {
    let mut stages = Table::new(&["STAGE", "DECISION"]);
    for stage in &answer.stages {
        stages.row([stage.stage.clone(), stage.decision.clone()]);
    }
    let plan = answer.plan.as_ref().map(|plan| {
        let next_hop = if plan.next_hop == plan.server.address {
            String::new()
        } else {
            format!(" via {}", plan.next_hop)
        };
        let (service, lip, server, dev) = (&plan.service, plan.lip, plan.server, &plan.dev);
        format!("service {service}, from {lip} to {server}{next_hop} dev {dev}")
    });
    let end = details(&[
        ("verdict", answer.verdict.clone()),
        ("meaning", answer.meaning.clone()),
        ("worker", answer.worker.to_string()),
        ("plan", plan.unwrap_or_default()),
    ]);
    format!("{}\n{end}", stages.wrapped(width))
}
