"""A program that talks all the time, in every way it can; prints a line for each attempt: what, and `ok` or the error.

    chatter SERVER4 SERVER6 PORT UDP_PORT DEVICE OWN4
"""
import errno, itertools, os, socket, struct, sys

server4, server6, port, udp_port, device = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5].encode()
own4, place = sys.argv[6], socket.if_nametoindex(device)
BOUND = [(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)]
A, AAAA, HTTPS = 1, 28, 65
UDP_LITE, SCTP, OTHER = 136, 132, 253


def attempt(what, act, *arguments):
    try:
        act(*arguments)
        said = "ok"
    except OSError as error:
        said = errno.errorcode.get(error.errno, "timeout")
    print(what, said, flush=True)


def open_socket(server, kind, options=()):
    opened = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, kind)
    # what is bound to a device is never answered
    opened.settimeout(0.2 if options else 1.5)
    for option in options:
        opened.setsockopt(*option)
    return opened


def exchange(server, kind, to, said, options=()):
    with open_socket(server, kind, options) as opened:
        opened.connect((server, to))
        opened.sendall(said)
        if not opened.recv(2048):
            raise OSError(errno.ECONNRESET, "")


def sourced(kind, to, said):
    """From an address of this host's own, not from any."""
    with open_socket(server4, kind) as opened:
        opened.bind((own4, 0))
        opened.connect((server4, to))
        opened.sendall(said)
        if not opened.recv(2048):
            raise OSError(errno.ECONNRESET, "")


def early(said):
    """What is said goes with the first packet, where the kernel may (TCP Fast Open)."""
    with open_socket(server4, TCP) as opened:
        opened.sendto(said, socket.MSG_FASTOPEN, (server4, port))
        if not opened.recv(2048):
            raise OSError(errno.ECONNRESET, "")


def by_device(server, said):
    """The datagram says by which device it is to go (ip(7), ipv6(7))."""
    if ":" in server:
        where = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16sI", b"", place))
    else:
        where = (socket.IPPROTO_IP, 8, struct.pack("=I4s4s", place, b"", b""))
    with open_socket(server, UDP) as opened:
        opened.settimeout(0.2)
        opened.sendmsg([said], [where], 0, (server, udp_port))
        opened.recv(2048)


def ping(server, said):
    v6 = ":" in server
    with socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, UDP, 58 if v6 else 1) as opened:
        opened.settimeout(0.2)
        opened.connect((server, 0))
        opened.send(bytes([128 if v6 else 8, 0, 0, 0, 0, 1, 0, 1]) + said)
        opened.recv(2048)


def otherwise(kind, protocol, said):
    """By a protocol that is neither TCP nor UDP."""
    with socket.socket(socket.AF_INET, kind, protocol) as opened:
        opened.settimeout(0.2)
        opened.connect((server4, 0 if kind == socket.SOCK_RAW else port))
        opened.send(said)
        opened.recv(2048)


def question(name, record):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", os.getpid() & 0xffff, 0x100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, record, 1)


def ask(server, kind, name, record=A, holds=b"\xc0\0\2\x11"):
    said = question(name, record)
    if kind == socket.SOCK_STREAM:
        said = struct.pack(">H", len(said)) + said
    with open_socket(server, kind) as opened:
        opened.connect((server, 53))
        opened.sendall(said)
        answer = opened.recv(2048)
        begin = 2 if kind == socket.SOCK_STREAM else 0
        # that there is none of that kind, or no such name, is an answer too
        said = len(answer) >= begin + 12 and answer[begin + 3] & 0xf in (0, 3)
        if not said or holds not in answer:
            raise OSError(errno.ENOENT, "")


class Long:
    """A connection that stays, until it breaks."""
    def __init__(self):
        self.stream = None

    def say(self, round):
        if self.stream is None:
            self.stream = open_socket(server4, socket.SOCK_STREAM)
        try:
            if round == 0 or self.stream.fileno() >= 0 and not self.is_open():
                self.stream.connect((server4, port))
            self.stream.sendall(b"SECRET-LONG\n")
            if not self.stream.recv(2048):
                raise OSError(errno.ECONNRESET, "")
        except OSError:
            self.stream.close()
            self.stream = None
            raise

    def is_open(self):
        try:
            self.stream.getpeername()
            return True
        except OSError:
            return False


long, TCP, UDP = Long(), socket.SOCK_STREAM, socket.SOCK_DGRAM
for round in itertools.count():
    name, said = f"r{round}-{os.getpid()}.secret.example", b"SECRET-%d\n" % round
    attempt("long", long.say, round)
    attempt("tcp4", exchange, server4, TCP, port, said)
    attempt("tcp6", exchange, server6, TCP, port, said)
    attempt("udp4", exchange, server4, UDP, udp_port, said)
    attempt("udp6", exchange, server6, UDP, udp_port, said)
    attempt("name", ask, "127.0.0.1", UDP, "a" + name)
    attempt("name-elsewhere", ask, server4, UDP, "b" + name)
    attempt("name-by-tcp", ask, server4, TCP, "c" + name)
    attempt("name-elsewhere6", ask, server6, UDP, "d" + name)
    attempt("name-aaaa", ask, server4, UDP, "e" + name, AAAA, socket.inet_pton(socket.AF_INET6, "2606:17::17"))
    attempt("name-https", ask, server4, UDP, "f" + name, HTTPS, b"")
    attempt("sourced-tcp", sourced, TCP, port, said)
    attempt("sourced-udp", sourced, UDP, udp_port, said)
    attempt("early", early, said)
    attempt("bound-tcp", exchange, server4, TCP, port, said, BOUND)
    attempt("bound-udp", exchange, server4, UDP, udp_port, said, BOUND)
    attempt("bound-tcp6", exchange, server6, TCP, port, said, BOUND)
    attempt("bound-udp6", exchange, server6, UDP, udp_port, said, BOUND)
    attempt("by-device", by_device, server4, said)
    attempt("by-device6", by_device, server6, said)
    attempt("ping", ping, server4, said)
    attempt("ping6", ping, server6, said)
    attempt("udp-lite", otherwise, UDP, UDP_LITE, said)
    attempt("sctp", otherwise, TCP, SCTP, said)
    attempt("raw", otherwise, socket.SOCK_RAW, OTHER, said)
    print("round", round, flush=True)
