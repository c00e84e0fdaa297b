#!/usr/bin/python3
"""Prints every connection as it is decided, by gRPC. Goes on where it was when the stream breaks.

Usage: watch.py [--count N] [--token TOKEN] [EXECUTABLE]
"""

import argparse
import os
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.environ.get("PORTMASTER_GENERATED", os.path.join(here, "generated")))

import grpc
from portmaster.api.v1 import connections_pb2, connections_pb2_grpc
from portmaster.flow.v1 import flow_pb2


def describe(event):
    connection = event.connection
    kind = connections_pb2.ConnectionEventKind.Name(event.kind).removeprefix("CONNECTION_EVENT_KIND_").lower()
    verdict = flow_pb2.Verdict.Name(connection.decision.verdict).removeprefix("VERDICT_").lower()
    program = connection.process.executable or connection.process_unknown or "?"
    where = connection.domain or connection.remote.address
    return f"{kind:9} {verdict:6} {program} -> {where}:{connection.remote.port} ({connection.decision.reason})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="127.0.0.1:817")
    parser.add_argument("--count", type=int, default=0, help="end after so many events [default: never]")
    parser.add_argument("--token", default=os.environ.get("PORTMASTER_TOKEN"))
    parser.add_argument("executable", nargs="?", default="")
    args = parser.parse_args()
    metadata = [("authorization", f"Bearer {args.token}")] if args.token else []
    client = connections_pb2_grpc.ConnectionsStub(grpc.insecure_channel(args.address))
    seen, last = 0, ""
    while True:
        request = connections_pb2.WatchConnectionsRequest(
            filter=connections_pb2.ConnectionFilter(executable=args.executable),
            # only the first time: later we go on behind what we saw last
            include_live=not last,
            resume_after=last,
        )
        try:
            for message in client.Watch(request, metadata=metadata):
                if message.dropped:
                    print(f"{message.dropped} events were lost", file=sys.stderr)
                last = message.event_id or last
                for event in message.events:
                    print(describe(event), flush=True)
                    seen += 1
                    if args.count and seen >= args.count:
                        return
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                sys.exit(f"{error.code().name}: {error.details()}")
            time.sleep(1)


if __name__ == "__main__":
    main()
