import errno
import os
import struct
from pathlib import Path

import pytest

from onmodel.errors import SpaceError, StateError
from onmodel.hashing import (
    TEMPORARY_PREFIX,
    canonical_json,
    read_json,
    sweep,
    tree_hash,
    write_atomic,
    write_json,
)


def test_write_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.bin"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]


def test_full_disk_keeps_the_old_file_and_leaves_no_orphan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SpaceError, match="free some room"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_tree_hash_sees_names_and_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "x.json", {"k": 1})
    first = tree_hash(tmp_path)
    write_json(tmp_path / "a" / "x.json", {"k": 2})
    second = tree_hash(tmp_path)
    (tmp_path / "a" / "x.json").rename(tmp_path / "a" / "y.json")
    assert len({first, second, tree_hash(tmp_path)}) == 3


def test_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{")
    with pytest.raises(StateError, match=r"s\.json"):
        read_json(tmp_path / "s.json")


def test_sweep_removes_only_our_temporaries(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY_PREFIX}abc").write_text("")
    (tmp_path / "mine.txt").write_text("")
    sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


# RFC 8785, appendix B: the bits of a double, and how it is written.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize(("bits", "written"), NUMBERS.items())
def test_numbers_are_written_as_rfc_8785_appendix_b_says(bits: str, written: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(value) == written.encode()


@pytest.mark.parametrize("bits", ["7fffffffffffffff", "7ff0000000000000", "fff0000000000000"])
def test_numbers_that_json_lacks_are_errors(bits: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    with pytest.raises(ValueError, match="not representable"):
        canonical_json({"a": [value]})


def test_whole_numbers_that_a_double_does_not_hold_are_errors() -> None:
    assert (
        canonical_json([2**53 - 1, -(2**53) + 1, 16, 16.0])
        == b"[9007199254740991,-9007199254740991,16,16]"
    )
    with pytest.raises(ValueError, match="exceeds"):
        canonical_json(2**53)


def test_strings_literals_and_order_are_those_of_rfc_8785() -> None:
    """Sections 3.2.2 and 3.2.3: escapes are the shortest, keys go by UTF-16 code units, not by code
    points."""
    sample = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert (
        canonical_json(sample)
        == (
            '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
            '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
        ).encode()
    )
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    written = canonical_json({key: index for index, key in enumerate(keys)}).decode()
    assert written == '{"\\r":1,"1":3,"\u0080":5,"\u00f6":6,"\u20ac":0,"\U0001f600":4,"\ufb33":2}'
    assert canonical_json("".join(map(chr, range(0x20)))) == (
        b'"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\\b\\t\\n\\u000b\\f\\r\\u000e\\u000f'
        b'\\u0010\\u0011\\u0012\\u0013\\u0014\\u0015\\u0016\\u0017\\u0018\\u0019\\u001a\\u001b\\u001c\\u001d\\u001e\\u001f"'
    )
    assert (
        canonical_json("\x7f\u2028") == '"\x7f\u2028"'.encode()
    )  # what need not be escaped is not
    with pytest.raises(ValueError, match="UTF-8"):
        canonical_json("\ud800")
    with pytest.raises(ValueError, match="keys"):
        canonical_json({1: 2})
