"""Where the toon base lies: a really trained small Anima that ships with the package, as a
diffusers folder."""

from pathlib import Path

TOON_BASE = Path(__file__).parent / "assets" / "base"
