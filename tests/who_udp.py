"""Answers each datagram with whom the kernel says it is from.

usage: who_udp.py v4|v6 PORT...    v6 takes both families
"""
import socket
import sys
import threading


def serve(family, port):
    ipv4 = family == "v4"
    receiver = socket.socket(socket.AF_INET if ipv4 else socket.AF_INET6, socket.SOCK_DGRAM)
    if not ipv4:
        receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    receiver.bind(("0.0.0.0" if ipv4 else "::", port))
    while True:
        _, sender = receiver.recvfrom(2048)
        text = f"Your remote_addr and remote_port is {sender[0]}:{sender[1]}"
        receiver.sendto(text.encode(), sender)


words = sys.argv[1:]
threads = [threading.Thread(target=serve, args=(family, int(port)))
           for family, port in zip(words[::2], words[1::2])]
for thread in threads:
    thread.start()
print("listening", flush=True)
