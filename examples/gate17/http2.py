"""HTTP/2 (RFC 9113) over anything that has `send` and `recv`, as much of it as a client needs."""
import struct


class Refused(Exception):
    pass


DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 32
OURS = 1 << 20


def integer(value, bits, first=0):
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    octets, value = bytes([first | most]), value - most
    while value >= 128:
        octets, value = octets + bytes([value & 127 | 128]), value >> 7
    return octets + bytes([value])


def header_block(fields):
    """Literals, with nothing kept (RFC 7541, section 6.2.2)."""
    text = lambda octets: integer(len(octets), 7) + octets
    return b"".join(b"\0" + text(name.encode()) + text(value.encode()) for name, value in fields)


def status(block):
    """The first field of an answer. Our table has no room: whatever is named stands in the static one."""
    def read(at, bits):
        value, at = block[at] & (1 << bits) - 1, at + 1
        if value == (1 << bits) - 1:
            shift = 0
            while True:
                octet, at = block[at], at + 1
                value, shift = value + ((octet & 127) << shift), shift + 7
                if octet < 128:
                    break
        return value, at
    at = 0
    while block[at] & 0xe0 == 0x20:  # the table's size
        at = read(at, 5)[1]
    if block[at] & 0x80:
        return {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}[read(at, 7)[0]]
    name, after = read(at, 6 if block[at] & 0x40 else 4)
    if not 8 <= name <= 14:
        raise Refused("an answer without a status")
    length, start = read(after, 7)
    value = block[start:start + length]
    if block[after] & 0x80:  # Huffman's code, of digits (RFC 7541, appendix B)
        bits, digits = "".join(f"{octet:08b}" for octet in value), ""
        code = {"00000": "0", "00001": "1", "00010": "2", **{f"{0x19 + n:06b}": str(n + 3) for n in range(7)}}
        while len(digits) < 3:
            length = 5 if bits[:5] in code else 6
            digits, bits = digits + code[bits[:length]], bits[length:]
        return int(digits)
    return int(value)


class Http2:
    def __init__(self, below):
        self.below, self.buffer, self.streams, self.next = below, b"", {}, 1
        # what a connection begins with, until its settings come
        self.window, self.initial, self.largest = 65535, 65535, 16384
        settings = b"".join(struct.pack(">HI", *one) for one in ((1, 0), (2, 0), (4, OURS)))
        self.below.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(SETTINGS, 0, 0, settings)
                        + self.frame(WINDOW, 0, 0, struct.pack(">I", OURS)))

    @staticmethod
    def frame(kind, flags, stream, payload=b""):
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    def take(self, count):
        while len(self.buffer) < count:
            octets = self.below.recv()
            if not octets:
                raise Refused("a connection ended")
            self.buffer += octets
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def step(self):
        """One frame."""
        head = self.take(9)
        kind, flags, number = head[3], head[4], int.from_bytes(head[5:], "big") & 0x7fffffff
        payload = self.take(int.from_bytes(head[:3], "big"))
        stream, whole = self.streams.get(number), len(payload)
        if flags & PADDED and kind in (DATA, HEADERS):
            payload = payload[1:len(payload) - payload[0]]
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[at:at + 6])
                if name == 4:
                    for one in self.streams.values():
                        one.window += value - self.initial
                    self.initial = value
                elif name == 5:
                    self.largest = value
            self.below.send(self.frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.below.send(self.frame(PING, ACK, 0, payload))
        elif kind == WINDOW:
            more = int.from_bytes(payload, "big") & 0x7fffffff
            if number == 0:
                self.window += more
            elif stream:
                stream.window += more
        elif kind == DATA:
            if whole:
                opened = struct.pack(">I", whole)
                self.below.send(self.frame(WINDOW, 0, 0, opened) + self.frame(WINDOW, 0, number, opened))
            if stream:
                stream.came += payload
                stream.ended |= bool(flags & END_STREAM)
        elif kind == HEADERS:
            block = payload[5:] if flags & PRIORITY else payload
            while not flags & END_HEADERS:
                head = self.take(9)
                flags |= head[4] & END_HEADERS
                block += self.take(int.from_bytes(head[:3], "big"))
            if stream and stream.status is None:
                stream.status = status(block)
            if stream and flags & END_STREAM:
                stream.ended = True
        elif kind == RESET and stream and not stream.ended:
            # behind a whole answer it says only that what we still wanted to say is not wanted (section 8.1)
            stream.ended, stream.broken = True, int.from_bytes(payload, "big")
        elif kind == GOAWAY and int.from_bytes(payload[4:8], "big"):
            raise Refused(f"a connection ended with error {int.from_bytes(payload[4:8], 'big')}")

    def request(self, fields, body=None):
        """`body`: all that follows; None: more comes."""
        stream = Stream(self, self.next)
        self.streams[self.next], self.next = stream, self.next + 2
        self.below.send(self.frame(HEADERS, END_HEADERS, stream.number, header_block(fields)))
        if body is not None:
            stream.send(body, True)
        return stream


class Stream:
    def __init__(self, http, number):
        self.http, self.number, self.window = http, number, http.initial
        self.came, self.ended, self.status, self.broken = b"", False, None, None

    def send(self, octets, last=False):
        while octets or last:
            while octets and min(self.window, self.http.window) <= 0:
                self.http.step()
            if self.broken is not None:
                raise Refused(f"a stream was reset: error {self.broken}")
            count = min(len(octets), self.window, self.http.window, self.http.largest)
            part, octets = octets[:count], octets[count:]
            self.window, self.http.window = self.window - count, self.http.window - count
            ends = last and not octets
            self.http.below.send(Http2.frame(DATA, END_STREAM if ends else 0, self.number, part))
            if ends:
                return

    def answered(self):
        while self.status is None and not self.ended:
            self.http.step()
        if self.broken is not None:
            raise Refused(f"a stream was reset: error {self.broken}")
        if self.status != 200:
            raise Refused(f"it was answered {self.status}")
        return self

    def recv(self):
        """Some octets; none at the end. An answer that is no 200 has nothing for who expects a connection."""
        self.answered()
        while not self.came and not self.ended:
            self.http.step()
        if self.broken is not None and not self.came:
            raise Refused(f"a stream was reset: error {self.broken}")
        octets, self.came = self.came, b""
        return octets

    def all(self):
        return b"".join(iter(self.recv, b""))
