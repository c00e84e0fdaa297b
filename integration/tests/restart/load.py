"""Traffic that notices every loss: `serve` answers, `load` asks and counts, `load-processes` has short-lived processes ask as well.
Standard library alone."""
import json
import signal
import socket
import subprocess
import sys
import threading
import time

ECHO, DATAGRAMS, STREAM = 7001, 7002, 7003
NETCAT = "/usr/bin/nc.openbsd"
PATIENCE = 15.0
LONG = 0.02
over = threading.Event()
ports = iter(range(8000, 32768))


def echo(connection):
    with connection:
        while data := connection.recv(4096):
            connection.sendall(data)


def stream(connection):
    """About 4 MB/s, until the other end has enough."""
    chunk = bytes(8192)
    with connection:
        while True:
            connection.sendall(chunk)
            time.sleep(0.002)


def quietly(act, *arguments):
    try:
        act(*arguments)
    except OSError:
        pass


def accept(port, act):
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=quietly, args=(act, connection), daemon=True).start()


def datagrams(address, port):
    """Bound to one address, so that answers come from the address that was asked."""
    ear = socket.socket(family(address), socket.SOCK_DGRAM)
    ear.bind((address, port))
    while True:
        data, sender = ear.recvfrom(4096)
        ear.sendto(data, sender)


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(addresses):
    parts = [(accept, (ECHO, echo)), (accept, (STREAM, stream))]
    parts += [(datagrams, (address, DATAGRAMS)) for address in addresses]
    for act, arguments in parts:
        threading.Thread(target=act, args=arguments, daemon=True).start()
    print("ready", flush=True)
    signal.pause()


class Count:
    def __init__(self):
        # again: asked once more, since the one who was asked had ended meanwhile
        self.done = self.refused = self.lost = self.failed = self.again = 0
        self.took = []
        self.errors = []
        # the longest wait of each time in which many waited: a restart, seen from here
        self.waits = []
        self.waited_until = 0.0

    def attempt(self, act):
        begin = time.monotonic()
        try:
            act()
            self.done += 1
        except ConnectionRefusedError:
            self.refused += 1
        except (TimeoutError, socket.timeout):
            self.lost += 1
        except OSError as error:
            self.failed += 1
            self.errors.append(str(error))
        end = time.monotonic()
        self.took.append(end - begin)
        if end - begin > LONG:
            if begin > self.waited_until:
                self.waits.append(0.0)
            self.waited_until = end
            self.waits[-1] = max(self.waits[-1], end - begin)

    def told(self):
        took = sorted(self.took) or [0.0]
        return {
            "attempted": len(self.took),
            "done": self.done,
            "refused": self.refused,
            "lost": self.lost,
            "failed": self.failed,
            "again": self.again,
            "errors": sorted(set(self.errors))[:5],
            "median_ms": took[len(took) // 2] * 1000,
            "longest_ms": took[-1] * 1000,
            "waits_ms": [wait * 1000 for wait in self.waits],
        }


def connection(address):
    step = "connect"
    try:
        with socket.create_connection((address, ECHO), timeout=PATIENCE) as peer:
            step = f"send from {peer.getsockname()}"
            peer.sendall(b"17\n")
            step = f"receive at {peer.getsockname()}"
            if peer.recv(16) != b"17\n":
                raise OSError("closed without an answer")
    except ConnectionResetError as error:
        raise OSError(f"{step}: {error}") from error


def datagram(address):
    """One packet each way and nobody who repeats it: what is lost here was lost."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as peer:
        # a port that was not used before: else it is the same connection for the kernel, and told of once
        peer.bind(("", next(ports)))
        peer.settimeout(PATIENCE)
        peer.connect((address, DATAGRAMS))
        peer.send(b"17")
        peer.recv(16)


def process(address):
    """A process that lives as long as its one connection."""
    netcat = [NETCAT, "-n", "-N", "-v", "-w", str(int(PATIENCE)), address, str(ECHO)]
    done = subprocess.run(netcat, input=b"17\n", capture_output=True, timeout=PATIENCE)
    if done.stdout != b"17\n":
        raise OSError(f"{done.returncode} {done.stderr.decode()}")


def repeat(count, act, address, pause=0.004):
    while not over.is_set():
        count.attempt(lambda: act(address))
        time.sleep(pause)


def until_over(threads, tell):
    """Runs them until somebody says TERM, and prints what they came to."""
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM})
    over.set()
    for thread in threads:
        thread.join()
    print(json.dumps(tell()), flush=True)


def download(counted, address):
    with socket.create_connection((address, STREAM), timeout=PATIENCE) as peer:
        while not over.is_set():
            begin = time.monotonic()
            data = peer.recv(65536)
            counted["longest_pause_ms"] = max(counted["longest_pause_ms"], (time.monotonic() - begin) * 1000)
            if not data:
                raise OSError("the download was closed")
            counted["octets"] += len(data)


def load(addresses, processes):
    counts = {"connections": Count(), "datagrams": Count(), "processes": Count()}
    stream = {"octets": 0, "longest_pause_ms": 0.0, "error": ""}

    def established():
        try:
            download(stream, addresses[0])
        except OSError as error:
            stream["error"] = str(error) or type(error).__name__

    threads = [threading.Thread(target=established)]
    for address in addresses:
        threads.append(threading.Thread(target=repeat, args=(counts["connections"], connection, address)))
        threads.append(threading.Thread(target=repeat, args=(counts["datagrams"], datagram, address)))
        if processes:
            threads.append(threading.Thread(target=repeat, args=(counts["processes"], process, address, 0.03)))
    told = lambda: {**{name: count.told() for name, count in counts.items()}, "download": stream}
    until_over(threads, told)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2:])
    else:
        # every thread inherits it, and only sigwait() hears it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        load(sys.argv[2:], sys.argv[1] == "load-processes")
