"""The installation: Python, packages, the card, the processor, memory and disk."""

import os
import platform
import shutil
import sqlite3
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from onmodel.devices import accelerator, facts_of, has_bfloat16
from onmodel.doctor.findings import GIB
from onmodel.events import Finding, Status

_ROOM = (2, 10)  # GiB of free disk: below the first nothing can be made, below the second little
_SQLITE = (3, 37)  # STRICT tables


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


def _card() -> Iterator[Finding]:
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
            "the toon world runs on the processor; the real base needs a card",
        )


def _processor() -> Iterator[Finding]:
    import torch

    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    able = has_bfloat16(torch.device("cpu"))
    bf16 = "bfloat16 in hardware" if able else "no bfloat16 in hardware"
    text = f"{cores} cores, torch uses {threads} threads, {bf16}"
    if threads * 2 < cores and "OMP_NUM_THREADS" in os.environ:
        yield Finding(
            "processor",
            "warn",
            text,
            f"OMP_NUM_THREADS is {os.environ['OMP_NUM_THREADS']}; unset it",
        )
    else:
        yield Finding("processor", "ok", text)
