"""Distinct names of several LoRA files."""

from collections.abc import Sequence
from pathlib import Path


def names_of(files: Sequence[Path]) -> list[str]:
    """The files' names without ending, numbered where two are the same. Headers hold these, never
    a folder."""
    names: list[str] = []
    for path in files:
        stem = path.name.removesuffix(".safetensors")
        count = sum(name == stem or name.startswith(f"{stem}#") for name in names)
        names.append(stem if not count else f"{stem}#{count + 1}")
    return names
