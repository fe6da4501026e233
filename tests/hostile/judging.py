"""The checks that hold for every command and every hostile input."""

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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


class Server:
    """The process that runs commands (server.py); another takes its place when it broke a limit."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, place: Place, words: list[str]) -> Outcome:
        process = self._process or self._started()
        assert process.stdin is not None and process.stdout is not None
        question = json.dumps({"root": str(place.root), "words": words})
        print(question, file=process.stdin, flush=True)
        if line := process.stdout.readline():
            return Outcome(**json.loads(line))
        self._process = None
        text = {}
        for name in ("stdout", "stderr"):
            path = place.root / name
            text[name] = path.read_text("utf-8", "backslashreplace") if path.exists() else ""
            path.unlink(missing_ok=True)
        return Outcome(code=process.wait(), files=0, **text)

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate(timeout=60)

    def _started(self) -> "subprocess.Popen[str]":
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        more = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.server"],
            cwd=ROOT,
            text=True,
            encoding="utf-8",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **more},
        )
        return self._process


def faults_of(case: Case, server: Server, root: Path) -> list[str]:
    """Everything that is wrong about how the program meets a case."""
    place = Place(root).make()
    case.build(place)
    for step in case.runs:
        if not isinstance(step, Run):
            step(place)
            continue
        before, files = place.snapshot(), count_files(place.out)
        outcome = server.run(place, place.filled(step.words))
        faults = [
            *_ending(step, outcome),
            *_text(outcome),
            *_changes(before, place.snapshot(), place),
            *_left(place),
        ]
        if outcome.code == 2 and outcome.files > files:
            faults.append("refused, and yet wrote a file")
        if faults:
            command = " ".join(step.words[:3])
            return [*(f"{command}: {fault}" for fault in faults), _shown(outcome)]
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
            name = os.path.relpath(path, os.fsencode(place.root))
            yield f"{what} outside of the output folder: {name!r}"


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
