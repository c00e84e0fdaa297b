"""Calls of the API that notice each one that is dropped, and a client that watches: `calls.py`. Standard library alone.

A call on a connection of its own must be answered. One on a connection that was kept is made again where the server closed that
meanwhile (RFC 9112 §9.3.1), which is counted."""
import http.client
import json
import signal
import threading
import time

from load import Count, over, repeat, until_over

PORT, PAUSE = 817, 0.02
PATIENCE = 20.0
HEADERS = {"content-type": "application/json"}
CLOSED = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
METHODS = {"System/GetVersion": "version", "Connections/List": "connections"}


def call(connection, method):
    connection.request("POST", f"/portmaster.api.v1.{method}", '{"pageSize": 3}' if "List" in method else "{}", HEADERS)
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != 200 or METHODS[method].encode() not in said:
        raise OSError(f"{method}: {answer.status} {said[:200]}")


def alone(method):
    def act(address):
        connection = http.client.HTTPConnection(address, PORT, timeout=PATIENCE)
        try:
            call(connection, method)
        except http.client.HTTPException as error:
            raise OSError(f"{method}: {type(error).__name__} {error}") from error
        finally:
            connection.close()

    return act


def kept(count):
    state = {"connection": None}

    def act(address):
        for _ in range(2):
            fresh = state["connection"] is None
            connection = state["connection"] or http.client.HTTPConnection(address, PORT, timeout=PATIENCE)
            state["connection"] = None
            try:
                call(connection, "System/GetVersion")
                state["connection"] = connection
                return
            except CLOSED as error:
                connection.close()
                if fresh:
                    raise OSError(f"a new connection: {type(error).__name__} {error}") from error
                count.again += 1

    return act


def watch(seen):
    """Goes on behind what it saw last, as often as it is sent away."""
    place = None
    while not over.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=PATIENCE)
        try:
            headers = HEADERS | {"accept": "text/event-stream"} | ({"last-event-id": place} if place else {})
            connection.request("POST", "/portmaster.api.v1.Connections/Watch", "{}", headers)
            stream = connection.getresponse()
            if stream.status != 200:
                raise OSError(f"watch: {stream.status} {stream.read()[:200]}")
            seen["streams"] += 1
            event_id = None
            while line := stream.readline():
                kind, _, value = line.decode().strip().partition(": ")
                if kind == "id":
                    event_id = value
                elif kind == "data":
                    message = json.loads(value)
                    seen["dropped"] += int(message.get("dropped", 0))
                    for event in message.get("events", []):
                        take(seen, event["connection"])
                    place = event_id or place
                elif kind == "event":
                    break
        except ConnectionRefusedError:
            seen["refused"] += 1
        except (OSError, http.client.HTTPException) as error:
            if "watch:" in str(error):
                seen["errors"].append(str(error))
        connection.close()
        time.sleep(0.02)


def take(seen, connection):
    ends = [connection.get(end, {}).get("port", 0) for end in ("local", "remote")]
    if any(7001 <= int(port) <= 7003 for port in ends):
        seen["ids"].add(int(connection["id"]))


def main():
    counts, threads = {}, []
    for address in ("127.0.0.1", "::1"):
        for method in METHODS:
            count = counts[f"{method} {address}"] = Count()
            threads.append(threading.Thread(target=repeat, args=(count, alone(method), address, PAUSE)))
    count = counts["kept"] = Count()
    threads.append(threading.Thread(target=repeat, args=(count, kept(count), "127.0.0.1", PAUSE)))
    seen = {"ids": set(), "dropped": 0, "refused": 0, "streams": 0, "errors": []}
    # reads until the process ends: what was told last is on its way
    threading.Thread(target=watch, args=(seen,), daemon=True).start()
    while not seen["streams"]:
        time.sleep(0.01)

    def tell():
        # in order: it has seen all when it has seen what happened now
        patience = time.monotonic() + 5
        size = -1
        while size != len(seen["ids"]) and time.monotonic() < patience:
            size = len(seen["ids"])
            time.sleep(0.5)
        watched = {**seen, "ids": sorted(seen["ids"]), "errors": sorted(set(seen["errors"]))[:5]}
        return {"counts": {kind: count.told() for kind, count in counts.items()}, "watched": watched}

    until_over(threads, tell)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main()
