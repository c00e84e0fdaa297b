"""Queries for names that notice each one that is dropped: `names.py PATIENCE ANSWER SERVER…`. Standard library alone.
`names.py once ANSWER SERVER…` asks each of them one question.

Each server is asked by datagrams, each from a socket of its own and once, and by connections, each for one query. PATIENCE: seconds
until a query is asked again, as resolvers do; that is counted."""
import itertools
import signal
import socket
import struct
import sys
import threading

from load import Count, family, repeat, until_over

PAUSE = 0.01
TRIES = 4
numbers = itertools.count()


def name():
    """Three of four are known already, the others have to be asked for."""
    number = next(numbers)
    return f"n{number}.load.example" if number % 4 == 0 else "fine.load.example"


def query(number):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name().split("."))
    return struct.pack(">HHHHHH", number, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


def check(reply, number, answer):
    got, flags, _, answers, _, _ = struct.unpack(">HHHHHH", reply[:12])
    if got != number or flags & 15 or not answers or socket.inet_ntoa(reply[-4:]) != answer:
        raise OSError(f"answer of code {flags & 15} with {answers} records")


def datagram(count, patience, answer, server):
    number = next(numbers) & 0xFFFF
    with socket.socket(family(server), socket.SOCK_DGRAM) as peer:
        peer.settimeout(patience)
        peer.connect((server, 53))
        for attempt in range(TRIES):
            count.again += attempt > 0
            peer.send(query(number))
            try:
                return check(peer.recv(4096), number, answer)
            except TimeoutError:
                pass
        raise TimeoutError


def whole(peer, octets):
    read = b""
    while len(read) < octets:
        part = peer.recv(octets - len(read))
        if not part:
            raise ConnectionResetError("closed without an answer")
        read += part
    return read


def connection(count, patience, answer, server):
    number = next(numbers) & 0xFFFF
    for attempt in range(TRIES):
        count.again += attempt > 0
        try:
            with socket.create_connection((server, 53), timeout=patience) as peer:
                message = query(number)
                peer.sendall(struct.pack(">H", len(message)) + message)
                (octets,) = struct.unpack(">H", whole(peer, 2))
                return check(whole(peer, octets), number, answer)
        except (ConnectionResetError, BrokenPipeError, TimeoutError):
            pass
    raise TimeoutError


def main(patience, answer, servers):
    counts, threads = {}, []
    for server in servers:
        for kind, act in (("UDP", datagram), ("TCP", connection)):
            count = counts[f"{kind} {server}"] = Count()
            ask = lambda server, act=act, count=count: act(count, float(patience), answer, server)
            threads.append(threading.Thread(target=repeat, args=(count, ask, server, PAUSE)))
    until_over(threads, lambda: {"counts": {kind: count.told() for kind, count in counts.items()}})


def once(answer, servers):
    for server in servers:
        datagram(Count(), 1.0, answer, server)


if __name__ == "__main__":
    if sys.argv[1] == "once":
        once(sys.argv[2], sys.argv[3:])
        sys.exit()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
