"""Pictures for tests that no writer makes: the first bytes of a JPEG XL, by ISO/IEC 18181-1, annex
D."""


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
