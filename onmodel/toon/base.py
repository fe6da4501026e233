"""The bases of the toon world: really trained small models that ship with the package, as diffusers
folders."""

from collections.abc import Sequence
from pathlib import Path

_ASSETS = Path(__file__).parent / "assets"
TOON_BASE = _ASSETS / "base"
# Name in recipes and on the command line → family and folder.
TOON_BASES = {"toon": ("anima", TOON_BASE), "toon-sdxl": ("sdxl", _ASSETS / "sdxl")}


def toon_base(rows: Sequence[str] | None) -> str:
    """The base of the toon world that a command line names, the first without one; "" for
    another."""
    found = list(rows or list(TOON_BASES)[:1])
    return found[0] if len(found) == 1 and found[0] in TOON_BASES else ""
