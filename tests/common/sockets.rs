//! TCP and UDP by hand, where a test needs to say which side does what and when.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::namespace::Namespace;

const LIMIT: Duration = Duration::from_secs(10);

/// Listens in a namespace.
#[track_caller]
pub fn listen(namespace: &Namespace, address: &str) -> TcpListener {
    let address: SocketAddr = address.parse().unwrap();
    namespace.enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).unwrap_or_else(|error| panic!("{address}: {error}"));
        socket.listen(128).unwrap();
        socket.into()
    })
}

/// Takes the next connection, which must come within five seconds.
#[track_caller]
pub fn accept_one(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    SockRef::from(listener).set_read_timeout(Some(LIMIT)).unwrap();
    let (stream, peer) = listener.accept().expect("nobody connected");
    bounded(&stream);
    (stream, peer)
}

/// Connects from a namespace; the error says why not.
pub fn connect(namespace: &Namespace, address: &str) -> std::io::Result<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    let stream = namespace.enter(|| TcpStream::connect_timeout(&address, LIMIT))?;
    bounded(&stream);
    Ok(stream)
}

/// Connects from a given source port, also if one of its connections is in TIME_WAIT.
pub fn connect_from(namespace: &Namespace, port: u16, address: &str) -> std::io::Result<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    let stream = namespace.enter(|| -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into())?;
        socket.connect_timeout(&address.into(), LIMIT)?;
        Ok(socket.into())
    })?;
    bounded(&stream);
    Ok(stream)
}

/// Ends a connection with RST instead of FIN.
pub fn abort(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

fn bounded(stream: &TcpStream) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream.set_nodelay(true).unwrap();
}

/// A UDP socket in a namespace that waits five seconds for a datagram.
#[track_caller]
pub fn udp(namespace: &Namespace, address: &str) -> UdpSocket {
    let address: SocketAddr = address.parse().unwrap();
    let socket = namespace
        .enter(|| UdpSocket::bind(address))
        .unwrap_or_else(|error| panic!("{address}: {error}"));
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// Sends a datagram to `address`, where `to` answers it; whom `to` saw and who answered.
#[track_caller]
pub fn exchange(from: &UdpSocket, to: &UdpSocket, address: &str) -> (SocketAddr, SocketAddr) {
    let mut buffer = [0; 64];
    from.send_to(b"who am I?", address).unwrap();
    let (len, peer) = to.recv_from(&mut buffer).expect("the datagram does not arrive");
    assert_eq!(&buffer[..len], b"who am I?");
    to.send_to(b"you are", peer).unwrap();
    let (len, answerer) = from.recv_from(&mut buffer).expect("the answer does not arrive");
    assert_eq!(&buffer[..len], b"you are");
    (peer, answerer)
}
