"""What goes through the tunnel, over restarts: `tunnel.py serve ADDRESS` answers, `tunnel.py load ADDRESS` asks.

New connections, one that stays, and a flow of datagrams."""
import signal
import socket
import sys
import threading
import time

from load import PATIENCE, Count, accept, datagrams, echo, over, repeat, until_over

STREAM, DATAGRAM = 7011, 7012
PAUSE = 0.01
# of the one that stays, each way at a time
BLOCK = 32 << 10


def serve(address):
    threading.Thread(target=accept, args=(STREAM, echo), daemon=True).start()
    threading.Thread(target=datagrams, args=(address, DATAGRAM), daemon=True).start()
    print("ready", flush=True)
    signal.pause()


def connection(address):
    step = "connect"
    try:
        with socket.create_connection((address, STREAM), timeout=PATIENCE) as peer:
            step = "send"
            peer.sendall(b"17\n")
            step = "receive"
            if peer.recv(16) != b"17\n":
                raise OSError("closed without an answer")
    except ConnectionResetError as error:
        raise OSError(f"{step}: reset") from error


def whole(peer, octets):
    read = b""
    while len(read) < octets:
        part = peer.recv(octets - len(read))
        if not part:
            raise OSError("it ended as if all had been said")
        read += part
    return read


def kept(seen, address):
    """One connection that stays as long as it can; gives up to be opened again."""
    with socket.create_connection((address, STREAM), timeout=PATIENCE) as peer:
        block = bytes(range(256)) * (BLOCK // 256)
        while not over.is_set():
            peer.sendall(block)
            if whole(peer, BLOCK) != block:
                raise OSError("it says something else")
            seen["octets"] += BLOCK
            time.sleep(PAUSE)


def flow(seen, address):
    """Datagrams of one flow. Those on their way when the entry ends are lost, as on any network; it is the flow that goes on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.connect((address, DATAGRAM))
        peer.settimeout(0.2)
        answered = time.monotonic()
        while not over.is_set():
            seen["sent"] += 1
            try:
                peer.send(b"17")
                peer.recv(16)
                seen["answered"] += 1
                answered = time.monotonic()
            except TimeoutError:
                pass
            except OSError as error:
                seen["errors"].add(str(error))
                time.sleep(PAUSE)
            seen["silence_ms"] = (time.monotonic() - answered) * 1000
            seen["longest_silence_ms"] = max(seen["longest_silence_ms"], seen["silence_ms"])
            time.sleep(PAUSE)


def load(address):
    counts = {"connections": Count(), "kept": Count()}
    seen = {"sent": 0, "answered": 0, "silence_ms": 0.0, "longest_silence_ms": 0.0, "errors": set(), "octets": 0}
    stay = lambda address: kept(seen, address)
    threads = [
        threading.Thread(target=repeat, args=(counts["connections"], connection, address, PAUSE)),
        threading.Thread(target=repeat, args=(counts["kept"], stay, address, PAUSE)),
        threading.Thread(target=flow, args=(seen, address)),
    ]

    def told():
        flowed = {**seen, "errors": sorted(seen["errors"])}
        return {"counts": {kind: count.told() for kind, count in counts.items()}, "flow": flowed}

    until_over(threads, told)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        load(sys.argv[2])
