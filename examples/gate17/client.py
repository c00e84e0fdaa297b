#!/usr/bin/python3
"""A second client of Gate17, written from docs/gate17.md alone: standard library and openssl(1), no line of Portmaster.

    client.py TRUST MAP fetch HOST:PORT [PATH]     a web page, by way of three nodes
    client.py TRUST MAP udp HOST:PORT TEXT         a datagram, and what comes back
    client.py TRUST MAP name NAME                  a name, asked at the exit (RFC 8484); prints its first IPv4 address
    client.py TRUST MAP map                        the map, as the last node of the path serves it; prints its serial

--hops N: 1 to 5 (3). The path is drawn; it ends at an exit whose rules allow the destination.
"""
import argparse, base64, hashlib, hmac, ipaddress, json, os, random, socket, ssl, struct, subprocess, sys, tempfile, urllib.parse
from datetime import datetime, timedelta, timezone

from http2 import Http2, Refused

MAP, ROOT = "application/vnd.gate17.map+json", "application/vnd.gate17.root+json"


# ── the map ──────────────────────────────────────────────────────────────────────────────────────────────────────────

def is_signed(message, signature, key):
    """Ed25519 by openssl: a key of 32 octets in the frame of RFC 8410."""
    with tempfile.TemporaryDirectory() as folder:
        def file(name, octets):
            path = os.path.join(folder, name)
            with open(path, "wb") as out:
                out.write(octets)
            return path
        public = file("key", bytes.fromhex("302a300506032b6570032100") + key)
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", public, "-rawin"]
        command += ["-in", file("message", message), "-sigfile", file("signature", signature)]
        return subprocess.run(command, capture_output=True).returncode == 0


def signers(envelope, kind, root):
    """How many different keys of `root` signed it."""
    if envelope["payloadType"] != kind:
        raise Refused(f"{envelope['payloadType']}, not {kind}")
    payload = base64.b64decode(envelope["payload"], validate=True)
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    signed = set()
    for key in {bytes.fromhex(key.removeprefix("ed25519:")) for key in root["keys"]}:
        for one in envelope["signatures"]:
            if one["keyid"] == hashlib.sha256(key).hexdigest() and is_signed(message, base64.b64decode(one["sig"]), key):
                signed.add(key)
    return len(signed)


def opened(envelope, trust, now=None):
    """What is in a map's envelope, if it may be believed."""
    if len(envelope) > 8 << 20:
        raise Refused("an envelope of more than 8 MiB")
    envelope, root = json.loads(envelope), trust["root"]
    said = json.loads(base64.b64decode(envelope["payload"], validate=True))
    if said.get("format") != 1 or said["network"] != trust["network"]:
        raise Refused("a map of another format or network")
    for rotation in said.get("rotations", []):
        new = json.loads(base64.b64decode(rotation["payload"]))
        if new["root"]["version"] <= root["version"]:
            continue
        one_on = new["root"]["version"] == root["version"] + 1 and new["network"] == trust["network"]
        for keys in (root, new["root"]):
            if not one_on or signers(rotation, ROOT, keys) < keys["threshold"]:
                raise Refused("a rotation that nobody may make")
        root = new["root"]
    if signers(envelope, MAP, root) < root["threshold"]:
        raise Refused("too few signatures")
    now, day = now or datetime.now(timezone.utc), timedelta(days=1)
    time = lambda text: datetime.fromisoformat(text.replace("Z", "+00:00"))
    if time(said["expires"]) + day < now or time(said["issued"]) - day > now:
        raise Refused("a map of another time")
    return said


def token(map, own):
    if map["access"] == "map":
        code = hmac.new(bytes.fromhex(map["knock"]), b"gate17 map access v1", "sha256").digest()
        return base64.urlsafe_b64encode(code).rstrip(b"=").decode()
    return own if map["access"] == "token" else None


# ── the path ─────────────────────────────────────────────────────────────────────────────────────────────────────────

def allows(node, address, port):
    """A node's exit rules: the first that matches."""
    for rule in node.get("exit", []):
        ports = rule["ports"] == "*" or any(
            int(first) <= port <= int(last or first)
            for first, _, last in (part.strip().partition("-") for part in rule["ports"].split(",")))
        named = rule["to"] != "*"
        to = (address in ipaddress.ip_network(rule["to"])) if named else address.is_global
        if ports and to and (port != 25 or "25" in rule["ports"].split(",")):
            return rule["allow"]
    return False


def network(node):
    address = ipaddress.ip_address(node["addresses"][0]["address"])
    return ipaddress.ip_network((address, 16 if address.version == 4 else 32), strict=False)


def path(map, hops, exits):
    """An exit, and relays before it: no two of one family or network."""
    for _ in range(1000):
        nodes = random.sample(map["nodes"], hops)
        apart = len({node["family"] for node in nodes}) == len({network(node) for node in nodes}) == hops
        if apart and exits(nodes[-1]) and all(node.get("relay") for node in nodes[:-1]):
            return nodes
    raise Refused("the map has no such path")


# ── TLS within TLS ───────────────────────────────────────────────────────────────────────────────────────────────────

def public_key(certificate):
    """`SubjectPublicKeyInfo` of a certificate in DER: its sixth or seventh part (RFC 5280, section 4.1)."""
    def part(at):
        length, start = certificate[at + 1], at + 2
        if length & 0x80:
            start += length & 0x7f
            length = int.from_bytes(certificate[at + 2:start], "big")
        return start, start + length
    at = part(part(0)[0])[0]
    parts = []
    while len(parts) < 7:
        end = part(at)[1]
        if certificate[at] != 0xa0:  # the version may be missing
            parts.append(certificate[at:end])
        at = end
    return parts[5]


class Plain:
    """A connection of our own."""
    def __init__(self, node):
        at = node["addresses"][0]
        self.socket = socket.create_connection((at["address"], at["port"]), 20)
        self.send, self.recv = self.socket.sendall, lambda: self.socket.recv(65536)


class Tls:
    """With a node, over anything that has `send` and `recv`."""
    def __init__(self, below, node):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # names, dates and issuers mean nothing: the key does
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        self.below, self.came, self.goes = below, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.came, self.goes, server_hostname=node.get("name") or None)
        self.until(self.tls.do_handshake)
        pin = "sha256:" + hashlib.sha256(public_key(self.tls.getpeercert(True))).hexdigest()
        if pin not in node["keys"]:
            raise Refused(f"who answers for {node['id']} has another key")

    def until(self, act):
        while True:
            try:
                done = act()
                self.flush()
                return done
            except ssl.SSLWantReadError:
                self.flush()
                octets = self.below.recv()
                self.came.write(octets) if octets else self.came.write_eof()

    def flush(self):
        if self.goes.pending:
            self.below.send(self.goes.read())

    def send(self, octets):
        self.until(lambda: self.tls.write(octets))

    def recv(self):
        return self.until(lambda: self.tls.read(65536))


# ── a circuit ────────────────────────────────────────────────────────────────────────────────────────────────────────

def authority(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Circuit:
    def __init__(self, nodes, shown):
        self.shown = [("proxy-authorization", f"Bearer {shown}")] if shown else []
        self.last = Http2(Tls(Plain(nodes[0]), nodes[0]))
        for node in nodes[1:]:
            at = node["addresses"][0]
            # its hello goes out at once: the answer to CONNECT comes first of what comes
            self.last = Http2(Tls(self.connect(authority(at["address"], at["port"])), node))

    def connect(self, to):
        return self.last.request([(":method", "CONNECT"), (":authority", to)] + self.shown)

    def datagrams(self, host, port):
        where = f"/.well-known/masque/udp/{urllib.parse.quote(host, safe='')}/{port}/"
        return self.last.request([(":method", "CONNECT"), (":protocol", "connect-udp"), (":scheme", "https"),
                                  (":authority", "localhost"), (":path", where), ("capsule-protocol", "?1")] + self.shown)

    def ask(self, method, where, body, *more):
        shown = [("authorization", value) for _, value in self.shown]
        return self.last.request([(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", where)]
                                 + list(more) + shown, body).all()


def varint(octets):
    """RFC 9000, section 16; None where more are needed."""
    if not octets or len(octets) < (length := 1 << (octets[0] >> 6)):
        return None
    return int.from_bytes(octets[:length], "big") & (1 << 8 * length - 2) - 1, octets[length:]


def capsule(payload):
    length = len(payload) + 1
    return b"\0" + (bytes([length]) if length < 64 else struct.pack(">H", length | 0x4000)) + b"\0" + payload


def datagram(stream):
    """The next of context 0."""
    octets = b""
    while True:
        if (kind := varint(octets)) and (length := varint(kind[1])) and len(length[1]) >= length[0]:
            content, octets = length[1][:length[0]], length[1][length[0]:]
            if kind[0] == 0 and (context := varint(content)) and context[0] == 0:
                return context[1]
            continue
        more = stream.recv()
        if not more:
            raise Refused("the datagrams are over")
        octets += more


def query(name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return b"\0\0\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"


def first_address(answer):
    """Behind the question, records begin with a pointer to it: of type A, the first."""
    at = answer.index(b"\0\0\1\0\1", 12) + 5
    while at < len(answer):
        kind, length = struct.unpack(">H", answer[at + 2:at + 4])[0], struct.unpack(">H", answer[at + 10:at + 12])[0]
        if kind == 1:
            return str(ipaddress.ip_address(answer[at + 12:at + 12 + length]))
        at += 12 + length
    raise Refused("the name has no address")


def main():
    arguments = argparse.ArgumentParser(usage=__doc__)
    arguments.add_argument("trust"), arguments.add_argument("map"), arguments.add_argument("act")
    arguments.add_argument("rest", nargs="*")
    arguments.add_argument("--hops", type=int, default=3), arguments.add_argument("--token")
    asked = arguments.parse_args()
    with open(asked.trust, "rb") as trust, open(asked.map, "rb") as envelope:
        map = opened(envelope.read(), json.load(trust))
    exits = lambda node: bool(node.get("exit"))
    host, port = "", 0
    if asked.act in ("fetch", "udp"):
        host, _, port = asked.rest[0].rpartition(":")
        host, port = host.strip("[]"), int(port)
        exits = lambda node: allows(node, ipaddress.ip_address(host), port)
    nodes = path(map, asked.hops, exits)
    print("by way of", *(node["id"] for node in nodes), file=sys.stderr)
    circuit = Circuit(nodes, token(map, asked.token))
    if asked.act == "fetch":
        stream = circuit.connect(authority(host, port))
        page = asked.rest[1] if len(asked.rest) > 1 else "/"
        stream.send(f"GET {page} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        sys.stdout.buffer.write(stream.all().partition(b"\r\n\r\n")[2])
    elif asked.act == "udp":
        stream = circuit.datagrams(host, port)
        stream.send(capsule(asked.rest[1].encode()))
        print(datagram(stream).decode())
    elif asked.act == "name":
        question = query(asked.rest[0])
        kind = "application/dns-message"
        print(first_address(circuit.ask("POST", "/dns-query", question, ("content-type", kind), ("accept", kind))))
    elif asked.act == "map":
        with open(asked.trust, "rb") as trust:
            print(opened(circuit.ask("GET", "/.well-known/gate17/map", b""), json.load(trust))["serial"])


if __name__ == "__main__":
    try:
        main()
    except (Refused, OSError) as error:
        sys.exit(f"{sys.argv[0]}: {error}")
