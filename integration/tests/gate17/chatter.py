"""A program that talks all the time, in every way it can; prints a line for each attempt: what, and `ok` or the error.

    chatter SERVER4 SERVER6 PORT UDP_PORT DEVICE
"""
import errno, itertools, os, socket, struct, sys

server4, server6, port, udp_port, device = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5].encode()
BOUND = [(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)]


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


def question(name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", os.getpid() & 0xffff, 0x100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


def ask(server, kind, name):
    said = question(name)
    if kind == socket.SOCK_STREAM:
        said = struct.pack(">H", len(said)) + said
    with open_socket(server, kind) as opened:
        opened.connect((server, 53))
        opened.sendall(said)
        answer = opened.recv(2048)
        if b"\xc0\0\2\x11" not in answer:  # 192.0.2.17
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
    attempt("bound-tcp", exchange, server4, TCP, port, said, BOUND)
    attempt("bound-udp", exchange, server4, UDP, udp_port, said, BOUND)
    attempt("bound-tcp6", exchange, server6, TCP, port, said, BOUND)
    print("round", round, flush=True)
