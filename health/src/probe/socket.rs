//! Sockets of the kernel, on the way that is configured.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::{Target, Way};

/// A socket that does not block, bound as the way says.
pub(super) fn open(
    way: &Way,
    to: SocketAddr,
    kind: Type,
    protocol: Option<Protocol>,
) -> io::Result<Socket> {
    let make = || Socket::new(Domain::for_address(to), kind.nonblocking(), protocol);
    let socket = match &way.netns {
        Some(netns) => kni::netns::within(netns, make).map_err(io::Error::other)??,
        None => make()?,
    };
    if let Some(device) = &way.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    if let Some(source) = way.source.filter(|source| source.is_ipv4() == to.is_ipv4()) {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

/// A TCP conn to the target. It ends with a reset, so that neither side keeps anything of it.
pub(super) async fn connect(target: &Target) -> io::Result<TcpStream> {
    let to = target.socket_address();
    let socket = open(&target.way, to, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_linger(Some(Duration::ZERO))?;
    TcpSocket::from_std_stream(socket.into()).connect(to).await
}

/// A UDP socket that hears from the target only.
pub(super) async fn datagrams(target: &Target) -> io::Result<UdpSocket> {
    let to = target.socket_address();
    let socket = open(&target.way, to, Type::DGRAM, Some(Protocol::UDP))?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.connect(to).await?;
    Ok(socket)
}
