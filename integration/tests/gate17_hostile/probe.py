"""Asks a server what an active prober asks, and prints the answers without what changes from one moment to the next."""
import contextlib, re, socket, ssl, sys

host, port = sys.argv[1], int(sys.argv[2])
END = b"Host: x\r\nConnection: close\r\n\r\n"
PLAIN = [
    b"GET / HTTP/1.1\r\n" + END, b"HEAD / HTTP/1.1\r\n" + END, b"GET /nope HTTP/1.1\r\n" + END,
    b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /\r\n", b"\r\nGET / HTTP/1.1\r\n" + END,
    b"CONNECT a:1 HTTP/1.1\r\n" + END, b"OPTIONS * HTTP/1.1\r\n" + END, b"OPTIONS / HTTP/1.1\r\n" + END,
    b"TRACE / HTTP/1.1\r\n" + END, b"FOO / HTTP/1.1\r\n" + END, b"PUT /x HTTP/1.1\r\n" + END,
    b"POST / HTTP/1.1\r\nContent-Length: 3\r\n" + END + b"abc", b"POST /nope HTTP/1.1\r\n" + END,
    b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n" + END, b"POST / HTTP/1.1\r\nContent-Length: x\r\n" + END,
    b"POST /dns-query HTTP/1.1\r\nContent-Type: application/dns-message\r\nContent-Length: 3\r\n" + END + b"abc",
    b"GET /.well-known/gate17/map HTTP/1.1\r\n" + END,
    b"GET /.well-known/masque/udp/192.0.2.1/53/ HTTP/1.1\r\nUpgrade: connect-udp\r\n" + END,
    b"garbage\r\n\r\n", b"get / HTTP/1.1\r\n" + END, b"GET / HTTP/2.0\r\n" + END, b"GET / FTP/1.1\r\n" + END,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET x HTTP/1.1\r\n" + END, b"GET http://y/ HTTP/1.1\r\n" + END,
    b"GET / HTTP/1.1\r\nBad Header: 1\r\n" + END, b"GET / HTTP/1.1\r\nHost: y\r\n" + END,
    b"GET / HTTP/1.1\r\nBig: " + b"a" * 40000 + b"\r\n" + END, b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\n" + END,
    b"GET /../a HTTP/1.1\r\n" + END, b"GET /%zz HTTP/1.1\r\n" + END, b"GET /a HTTP/1.1\r\n" + END, b"GET /a/ HTTP/1.1\r\n" + END,
    b"GET / HTTP/1.1\r\nRange: bytes=0-3\r\n" + END, b"GET / HTTP/1.1\r\nRange: bytes=9999-\r\n" + END,
    b"GET /nope HTTP/1.1\r\nUser-Agent: Mozilla/5.0 Chrome/120.0\r\n" + END,
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /nope HTTP/1.1\r\n" + END,
]
# of HTTP/2: the preface, no settings of ours
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
MISTAKEN = [b"GET / HTTP/1.1\r\n" + END, b"what is this\r\n", b"SSH-2.0-x\r\n", b"\0" * 50, b"CONNECT a:1 HTTP/1.1\r\n\r\n"]


def everything(stream, enough=1 << 20):
    got = b""
    stream.settimeout(20)
    try:
        while len(got) < enough and (more := stream.recv(65536)):
            got += more
    except OSError as error:
        got += repr(type(error)).encode()
    return got


def secure(protocols):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(protocols)
    return context.wrap_socket(socket.create_connection((host, port), 20))


def show(name, answer):
    answer = re.sub(rb"(Date: )[^\r]*", rb"\1now", answer)
    print(name[:60], answer)


for octets in PLAIN:
    with secure(["http/1.1"]) as stream:
        # whoever refuses a long line may be gone before all of it is sent; his answer is there
        with contextlib.suppress(OSError):
            stream.sendall(octets)
        show(octets, everything(stream))
for protocols in (["h2", "http/1.1"], ["http/1.1", "h2"], ["http/1.1"], ["spdy/3"]):
    try:
        with secure(protocols) as stream:
            print(protocols, stream.selected_alpn_protocol(), stream.version())
    except ssl.SSLError as error:
        print(protocols, error.reason)
with secure(["h2"]) as stream:
    stream.sendall(PREFACE)
    show(b"HTTP/2", everything(stream, 49)[:49])
for octets in MISTAKEN:
    with socket.create_connection((host, port), 20) as stream:
        stream.sendall(octets)
        show(octets, everything(stream))
