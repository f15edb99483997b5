"""Debian's kernels in the other forms that are made of them: vmlinux, and bzImages without a 64-bit entry."""
import struct
import subprocess

DECOMPRESS = {b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"\x02\x21\x4c\x18": "lz4"}
XLOADFLAGS = 0x236
PVH_NOTE = struct.pack("<III4s", 4, 8, 18, b"Xen")


def vmlinux(bzimage):
    """The kernel that a bzImage unpacks (boot.rst, payload_offset and payload_length)."""
    with open(bzimage, "rb") as f:
        data = f.read()
    offset, length = struct.unpack_from("<II", data, 0x248)
    start = (data[0x1f1] + 1) * 512 + offset
    payload = data[start:start + length]
    tool = next(t for magic, t in DECOMPRESS.items() if payload.startswith(magic))
    # The length of the result follows the compressed stream, which makes some tools complain at the end.
    size = struct.unpack("<I", payload[-4:])[0]
    image = subprocess.run([tool, "-dc"], input=payload[:-4], capture_output=True).stdout
    assert image[:4] == b"\x7fELF" and len(image) == size
    return bytearray(image)


def without_pvh(image):
    """The same ELF with its PVH note made unknown."""
    at = image.find(PVH_NOTE)
    assert at > 0 and image.find(PVH_NOTE, at + 1) < 0
    struct.pack_into("<I", image, at + 8, 0x7fff)
    return image


def without_64_bit_entry(bzimage):
    with open(bzimage, "rb") as f:
        data = bytearray(f.read())
    assert data[XLOADFLAGS] & 1
    data[XLOADFLAGS] &= ~1
    return data
