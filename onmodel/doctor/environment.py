"""The installation: Python, packages, the card, the processor, memory and disk.

Loading torch takes longer than all the rest, so it is loaded only where there may be a card.
"""

import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from onmodel.devices import accelerator, facts_of, has_bfloat16
from onmodel.doctor.findings import GIB
from onmodel.events import Finding, Status

_ROOM = (2, 10)  # GiB of free disk: below the first nothing can be made, below the second little
_SQLITE = (3, 37)  # STRICT tables
# Linux has one of these for every card that torch can use: NVIDIA, Windows' cards in WSL, AMD,
# Intel.
_DEVICES = [Path("/dev") / name for name in ("nvidiactl", "dxg", "kfd", "dri")]
_NO_CARD = "the toon world runs on the processor; the real base needs a card"
_FLAGS = Path("/proc/cpuinfo")


def installation() -> Iterator[Finding]:
    """Python, packages, the card, the processor, memory and disk."""
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}")
    yield from _packages()
    if sqlite3.sqlite_version_info < _SQLITE:
        yield Finding(
            "sqlite", "fail", sqlite3.sqlite_version, "the ledger needs 3.37; use a newer Python"
        )
    yield from _card()
    yield from _processor()
    import psutil

    memory = psutil.virtual_memory()
    yield Finding(
        "memory", "ok", f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB are free"
    )
    free = shutil.disk_usage(Path.cwd()).free / GIB
    short: Status = "fail" if free < _ROOM[0] else "warn" if free < _ROOM[1] else "ok"
    yield Finding(
        "disk",
        short,
        f"{free:.1f} GiB are free here",
        "" if short == "ok" else "make room, or work elsewhere",
    )


def _packages() -> Iterator[Finding]:
    """The declared dependencies, each extra on its own."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(row) for row in metadata.requires("onmodel") or []]
    except metadata.PackageNotFoundError:
        yield Finding(
            "packages",
            "warn",
            "onmodel is not installed, so versions are not checked",
            "python run.py demo",
        )
        return
    bad, good, extras = [], 0, dict[str, list[str]]()
    for row in wanted:
        extra = next(
            (
                name
                for name in ("evaluate", "dev")
                if row.marker
                and not row.marker.evaluate({"extra": ""})
                and row.marker.evaluate({"extra": name})
            ),
            "",
        )
        try:
            version = metadata.version(row.name)
            fault = (
                ""
                if row.specifier.contains(version, prereleases=True)
                else f"{row.name} {version}, not {row.specifier}"
            )
        except metadata.PackageNotFoundError:
            fault = f"{row.name} is missing"
        if extra:
            extras.setdefault(extra, []).extend([fault] if fault else [])
        elif row.marker is None or row.marker.evaluate({"extra": ""}):
            bad += [fault] if fault else []
            good += not fault
    if bad:
        yield Finding("packages", "fail", "; ".join(bad), "install requirements.lock again")
    else:
        yield Finding("packages", "ok", f"all {good} that are needed")
    for extra, faults in extras.items():
        if extra != "dev":
            status: Status = "warn" if faults else "ok"
            remedy = f"pip install 'onmodel[{extra}]'" if faults else ""
            yield Finding(f"extra {extra}", status, "; ".join(faults) or "there", remedy)


def _may_have_card() -> bool:
    driver = shutil.which("nvidia-smi")
    return bool(driver) or sys.platform != "linux" or any(file.exists() for file in _DEVICES)


def _card() -> Iterator[Finding]:
    if not _may_have_card():
        yield Finding("card", "warn", "none", _NO_CARD)
        return
    import torch

    card = accelerator()
    if card is not None:
        facts = facts_of(card)
        text = (
            f"{card.type}: {facts.title}, {facts.memory / GIB:.1f} GiB, torch {torch.__version__},"
            f" {'bfloat16' if facts.bfloat16 else 'no bfloat16, so float32'}; not tested by us"
        )
        yield Finding("card", "ok" if facts.bfloat16 else "warn", text)
    elif shutil.which("nvidia-smi"):
        yield Finding(
            "card",
            "fail",
            f"an NVIDIA driver is there, but torch {torch.__version__} cannot use it",
            "install torch's CUDA build",
        )
    else:
        yield Finding(
            "card",
            "warn",
            f"none that torch {torch.__version__} can use",
            _NO_CARD,
        )


def _processor() -> Iterator[Finding]:
    cores, threads = os.cpu_count() or 1, os.environ.get("OMP_NUM_THREADS", "")
    text = f"{cores} cores, {'' if _has_bfloat16() else 'no '}bfloat16 in hardware"
    if threads.isdecimal() and int(threads) * 2 < cores:
        yield Finding("processor", "warn", text, f"OMP_NUM_THREADS is {threads}; unset it")
    else:
        yield Finding("processor", "ok", text)


def _has_bfloat16() -> bool:
    """As `devices.has_bfloat16` finds it of the processor, on Linux without torch."""
    if sys.platform == "linux" and _FLAGS.is_file():
        flags = _FLAGS.read_text(encoding="utf-8", errors="replace").split()
        return "avx512_bf16" in flags or "amx_bf16" in flags
    import torch

    return has_bfloat16(torch.device("cpu"))
