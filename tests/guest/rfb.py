"""A small VNC viewer (RFB 3.8, raw encoding) for tests."""
import socket
import ssl
import struct
import time

SPECIAL = {"\n": 0xff0d, "\t": 0xff09, "\b": 0xff08, "\x1b": 0xff1b}
SHIFTED = set('~!@#$%^&*()_+{}|:"<>?ABCDEFGHIJKLMNOPQRSTUVWXYZ')
DESKTOP_SIZE = -223
EXTENDED_KEYS = -258


class Viewer:
    def __init__(self, address, timeout=60):
        self.sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.sock.connect(address)
        self.sock.settimeout(timeout)
        self.version = self.read(12)
        self.sock.sendall(b"RFB 003.008\n")
        self.security = list(self.read(self.read(1)[0]))
        self.pixels = None

    def read(self, n):
        data = bytearray(n)
        view, at = memoryview(data), 0
        while at < n:
            got = self.sock.recv_into(view[at:])
            if not got:
                raise EOFError("the server has closed the connection")
            at += got
        return bytes(data)

    def secure(self):
        assert 1 in self.security, self.security
        self.sock.sendall(b"\x01")
        assert self.read(4) == bytes(4)

    def enter(self, encodings=(0, DESKTOP_SIZE, EXTENDED_KEYS)):
        self.secure()
        self.sock.sendall(b"\x01")
        self.width, self.height = struct.unpack(">HH", self.read(4))
        self.read(16)
        self.name = self.read(struct.unpack(">I", self.read(4))[0]).decode()
        # 32 bits a pixel, 00RRGGBB, little endian.
        self.sock.sendall(struct.pack(">B3xBBBBHHHBBB3x", 0, 32, 24, 0, 1, 255, 255, 255, 16, 8, 0))
        self.sock.sendall(struct.pack(f">BxH{len(encodings)}i", 2, len(encodings), *encodings))
        self.pixels = bytearray(self.width * self.height * 4)
        return self

    def ask(self, incremental):
        self.sock.sendall(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))

    def rectangle(self):
        x, y, w, h, encoding = struct.unpack(">HHHHi", self.read(12))
        if encoding == DESKTOP_SIZE:
            self.width, self.height = w, h
            self.pixels = bytearray(w * h * 4)
        elif encoding == 0:
            data = self.read(w * h * 4)
            for row in range(h):
                at = ((y + row) * self.width + x) * 4
                self.pixels[at:at + w * 4] = data[row * w * 4:(row + 1) * w * 4]
            return w * h
        else:
            assert encoding == EXTENDED_KEYS, encoding
        return 0

    def update(self, incremental=True):
        """Wait for one update; how many pixels it had."""
        self.ask(incremental)
        while (kind := self.read(1)[0]) != 0:
            assert kind == 3 or kind == 2, kind
            if kind == 3:
                self.read(struct.unpack(">3xI", self.read(7))[0])
        return sum(self.rectangle() for _ in range(struct.unpack(">xH", self.read(3))[0]))

    def full(self):
        """Wait for all of the screen; the first update may tell of other things only."""
        while not (n := self.update(False)):
            pass
        return n

    def key(self, keysym, down):
        self.sock.sendall(struct.pack(">BBxxI", 4, down, keysym))

    def press(self, keysym):
        self.key(keysym, True)
        self.key(keysym, False)

    def type(self, text, gap=0.02):
        for c in text:
            if c in SHIFTED:
                self.key(0xffe1, True)
            self.press(SPECIAL.get(c, ord(c)))
            if c in SHIFTED:
                self.key(0xffe1, False)
            time.sleep(gap)

    def pointer(self, x, y, buttons=0):
        self.sock.sendall(struct.pack(">BBHH", 5, buttons, x, y))

    def get(self, x, y):
        """(red, green, blue)"""
        at = (y * self.width + x) * 4
        return self.pixels[at + 2], self.pixels[at + 1], self.pixels[at]

    def close(self):
        self.sock.close()


class TlsViewer(Viewer):
    """One that says a password: VeNCrypt's X509Plain."""

    def __init__(self, address, password, name="", timeout=60):
        super().__init__(address, timeout)
        assert self.security == [19], self.security
        self.sock.sendall(b"\x13")
        assert self.read(2) == b"\0\2"
        self.sock.sendall(b"\0\2")
        assert self.read(1) == b"\0"
        kinds = struct.unpack(">I", self.read(4 * self.read(1)[0]))
        assert kinds == (262,), kinds
        self.sock.sendall(struct.pack(">I", 262))
        assert self.read(1) == b"\1"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock)
        self.sock.sendall(struct.pack(">II", len(name), len(password)) + name.encode() + password.encode())
        result, = struct.unpack(">I", self.read(4))
        if result:
            raise PermissionError(self.read(struct.unpack(">I", self.read(4))[0]).decode())

    def secure(self):
        pass
