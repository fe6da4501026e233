"""ICC profiles for tests, written from the standard: RGB by primaries and a gamma, grey by a gamma.
ICC.1:2010."""

import struct

import numpy as np

ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
_D65, _D50 = (0.3127, 0.3290), (0.9642, 1.0, 0.8249)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def rgb_profile(name: str, primaries: tuple[tuple[float, float], ...], gamma: float) -> bytes:
    """A matrix profile with D65 white, adapted to D50 as the standard wants."""
    tags = dict(
        zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(_xyz, primaries_d50(primaries).T), strict=True)
    )
    tags |= {key: _curve(gamma) for key in (b"rTRC", b"gTRC", b"bTRC")}
    return _profile(b"RGB ", name, tags)


def grey_profile(name: str, gamma: float) -> bytes:
    return _profile(b"GRAY", name, {b"kTRC": _curve(gamma)})


def primaries_d50(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Linear RGB → XYZ (D50) [3, 3]."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([_D65[0] / _D65[1], 1, (1 - sum(_D65)) / _D65[1]])
    matrix = columns * np.linalg.solve(columns, white)
    scale = (_BRADFORD @ np.array(_D50)) / (_BRADFORD @ white)
    return np.linalg.inv(_BRADFORD) @ np.diag(scale) @ _BRADFORD @ matrix


def _profile(space: bytes, name: str, tags: dict[bytes, bytes]) -> bytes:
    text = name.encode() + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * 78,
        b"wtpt": _xyz(np.array(_D50)),
        b"cprt": b"text\0\0\0\0none\0",
        **tags,
    }
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for key, value in tags.items():
        table += struct.pack(">4sII", key, start + len(data), len(value))
        data += value + b"\0" * (-len(value) % 4)
    size = start + len(data)
    head = (
        struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, b"mntr", space, b"XYZ ")
        + b"\0" * 12
    )
    head += b"acsp" + b"\0" * 28 + _xyz(np.array(_D50))[8:] + b"\0" * 48
    return head + struct.pack(">I", len(tags)) + table + data


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(
        struct.pack(">i", round(float(value) * 65536)) for value in values
    )


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
