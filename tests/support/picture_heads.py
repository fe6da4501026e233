"""The first bytes of pictures: a PNG, and a JPEG XL by ISO/IEC 18181-1, annex D."""

import struct
import zlib


def jxl_head(width: int, height: int, animated: bool = False) -> bytes:
    """A JPEG XL's signature, size and what follows it up to whether it moves; no pixel."""
    bits: list[tuple[int, int]] = [
        (0, 1),
        (3, 2),
        (height - 1, 30),
        (0, 3),
        (3, 2),
        (width - 1, 30),
    ]
    bits += [(0, 1), (1, 1), (0, 3), (0, 1), (0, 1), (int(animated), 1)]
    value, at = 0, 0
    for number, length in bits:
        value, at = value | number << at, at + length
    return b"\xff\x0a" + value.to_bytes(-(-at // 8), "little") + bytes(40)


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + chunk(b"IEND", b"")
    )
