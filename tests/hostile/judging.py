"""What every command owes to every hostile input, whatever it is. Each function returns what is
wrong, in words."""

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.hostile.case import ROOT, SECRET, Case, Place, Run
from tests.hostile.server import count_files

HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
JOINERS = "\u200c\u200d"  # composed emoji and Persian words need them


@dataclass(frozen=True)
class Outcome:
    """How a command ended; `files` is the number of files in the output folder after it."""

    code: int
    files: int
    stdout: str
    stderr: str


class Servers:
    """The processes that run commands (server.py): one with torch, and a small one that is forked
    faster."""

    WITHOUT_TORCH = (
        "dataset import",
        "dataset export",
        "dataset labels",
        "dataset decide",
        "dataset undo",
        "merge ",
        "run ",
    )

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        more = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
        self.processes = {
            torch: subprocess.Popen(
                [sys.executable, "-m", "tests.hostile.server", *["torch"] * torch],
                cwd=ROOT,
                text=True,
                encoding="utf-8",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **more},
            )
            for torch in (False, True)
        }

    def run(self, place: Place, commands: list[list[str]], torch: bool) -> list[Outcome]:
        """What came of each command, one after the other; after one that was killed no other is
        run."""
        torch = torch or not all(
            " ".join(words[:2]).startswith(self.WITHOUT_TORCH) for words in commands
        )
        process = self.processes[torch]
        assert process.stdin is not None and process.stdout is not None
        print(
            json.dumps({"root": str(place.root), "commands": commands}),
            file=process.stdin,
            flush=True,
        )
        return [Outcome(**answer) for answer in json.loads(process.stdout.readline())]

    def close(self) -> None:
        for process in self.processes.values():
            process.communicate(timeout=60)


def faults_of(case: Case, servers: Servers, root: Path) -> list[str]:
    """Everything that is wrong about how the program meets a case."""
    place = Place(root).make()
    case.build(place)
    faults: list[str] = []
    for commands, steps in groupby(case.runs, lambda step: isinstance(step, Run)):
        if not commands:
            for step in steps:
                step(place)  # type: ignore[operator]
            continue
        runs = [run for run in steps if isinstance(run, Run)]
        before, files = place.snapshot(), count_files(place.out)
        outcomes = servers.run(place, [place.filled(run.words) for run in runs], case.torch)
        for run, outcome in zip(runs, outcomes, strict=False):
            found = [*_ending(run, outcome), *_text(outcome)]
            if outcome.code == 2 and outcome.files > files:
                found.append("refused, and yet wrote a file")
            if found:
                faults += [f"{' '.join(run.words[:3])}: {fault}" for fault in found] + [
                    _shown(outcome)
                ]
            files = outcome.files
        faults += [*_changes(before, place.snapshot(), place), *_left(place)]
        if faults:
            return faults
    return case.then(place)


def _ending(run: Run, outcome: Outcome) -> Iterator[str]:
    if "Traceback (most recent" in outcome.stderr + outcome.stdout:
        yield "a traceback"
    if outcome.code < 0:
        yield f"ended by signal {-outcome.code}: too much time or memory, or a crash"
    elif outcome.code not in run.codes:
        yield f"exit code {outcome.code}, not {' or '.join(map(str, sorted(run.codes)))}"
    lines = [line for line in outcome.stderr.splitlines() if line.startswith("onmodel: ")]
    if outcome.code in (1, 2) and not run.findings and len(lines) != 1:
        yield f"{len(lines)} lines that say why"
    if outcome.code == 0 and lines:
        yield "success with the line of a failure"
    told = outcome.stdout + outcome.stderr
    for word in run.says:
        if word not in told:
            yield f"does not name {word!r}"
    for line in told.splitlines():
        if len(line) > 4_000:
            yield f"a line of {len(line)} characters"
            return


def _text(outcome: Outcome) -> Iterator[str]:
    for name, text in (("stdout", outcome.stdout), ("stderr", outcome.stderr)):
        bad = {
            sign
            for sign in text
            if unicodedata.category(sign) in HIDDEN and sign not in "\n" + JOINERS
        }
        if bad:
            yield f"{name} holds {', '.join(f'U+{ord(sign):04X}' for sign in sorted(bad))}"
        if SECRET in text:
            yield f"{name} tells a file that no command named"


def _changes(
    before: Mapping[bytes, Any], after: Mapping[bytes, Any], place: Place
) -> Iterator[str]:
    for path in sorted(set(before) | set(after)):
        if before.get(path) != after.get(path):
            what = "made" if path not in before else "removed" if path not in after else "changed"
            yield f"{what} outside of the output folder: {os.path.relpath(path, os.fsencode(place.root))!r}"


def _left(place: Place) -> Iterator[str]:
    """Half-written files, and a stranger's way to what lies elsewhere."""
    for folder, _, names in os.walk(os.fsencode(place.out)):
        for name in names:
            path = os.path.join(folder, name)
            if name.startswith(b".onmodel-"):
                yield f"a temporary file is left: {name!r}"
            if os.path.isfile(path) and os.path.getsize(path) < 2**20:
                with open(path, "rb") as file:
                    if SECRET.encode() in file.read():
                        yield f"{name!r} holds a file that no command named"


def _shown(outcome: Outcome) -> str:
    tail = (outcome.stderr.strip() or outcome.stdout.strip()).splitlines()[-4:]
    return "    | " + "\n    | ".join(line[:300] for line in tail)
