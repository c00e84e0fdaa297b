"""Many callers at once who begin, and do not go on; says when the node has left them all, and how long that took.

    swarm.py HOST KIND COUNT
"""
import resource, select, socket, ssl, sys, time

host, kind, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 64, max(count + 64, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["h2" if kind == "slow-http2" else "http/1.1"])


def hello():
    """What TLS says first."""
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(came, goes).do_handshake()
    except ssl.SSLWantReadError:
        return goes.read()


HELLO = hello()
# of a slow caller, one octet at a time
SLOW = {
    "slow-http1": b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 10_000,
    "slow-http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 10_000,
    # a body that is promised and does not come
    "slow-body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"b" * 10_000,
}
at_once = {"slow-body": 57}.get(kind, 1)

callers = []
for _ in range(count):
    caller = socket.socket()
    caller.settimeout(10)
    try:
        caller.connect((host, 443))
        if kind == "half":
            caller.sendall(HELLO[:100])
        elif kind == "unanswered":
            # the node's own answer is made, and waited with
            caller.sendall(HELLO)
        elif kind != "silent":
            caller = context.wrap_socket(caller)
            caller.sendall(SLOW[kind][:at_once])
        caller.setblocking(False)
        callers.append(caller)
    except OSError:
        # it was not let in at all
        caller.close()
print(len(callers), "begun", flush=True)
begun, said = time.monotonic(), at_once
while callers and time.monotonic() - begun < 60:
    time.sleep(0.1)
    said += 1
    for caller in list(callers):
        try:
            if kind in SLOW:
                caller.send(SLOW[kind][said:said + 1])
            while caller.recv(65536):
                pass
            gone = True
        except (ssl.SSLWantReadError, BlockingIOError):
            gone = False
        except OSError:
            gone = True
        if gone:
            caller.close()
            callers.remove(caller)
print("left" if not callers else f"{len(callers)} stay", "after", round(time.monotonic() - begun, 1), flush=True)
