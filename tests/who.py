"""Tells each client who the kernel says it is: by accept(), by getpeername(), by DPVS's socket option.

usage: who.py v4|v6|mptcp PORT...    v6 and mptcp take both families; a line from the client asks again
"""
import socket
import sys
import threading

SO_CLIENT6 = 4096


def name(address):
    return f"{address[0]}:{address[1]}"


def option(peer):
    try:
        value = peer.getsockopt(socket.IPPROTO_IP, SO_CLIENT6, 20)
    except OSError:
        return "-:-"
    return f"{socket.inet_ntop(socket.AF_INET6, value[:16])}:{int.from_bytes(value[16:18], 'big')}"


def serve(peer, accepted):
    with peer:
        known = name(accepted)
        while True:
            text = f"Your remote_addr and remote_port is {known}"
            peer.sendall(f"{text} getpeername {name(peer.getpeername())} toa {option(peer)}\n".encode())
            if not peer.recv(64):
                return


def listen(family, port):
    ipv4 = family == "v4"
    protocol = socket.IPPROTO_MPTCP if family == "mptcp" else 0
    listener = socket.socket(
        socket.AF_INET if ipv4 else socket.AF_INET6, socket.SOCK_STREAM, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if not ipv4:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("0.0.0.0" if ipv4 else "::", port))
    listener.listen(4096)
    while True:
        peer, accepted = listener.accept()
        threading.Thread(target=serve, args=(peer, accepted), daemon=True).start()


words = sys.argv[1:]
threads = [threading.Thread(target=listen, args=(family, int(port)))
           for family, port in zip(words[::2], words[1::2])]
for thread in threads:
    thread.start()
print("listening", flush=True)
