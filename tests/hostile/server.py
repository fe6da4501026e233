"""Runs commands of the program one after the other, each within limits of memory and time.

`python -m tests.hostile.server` reads a line of JSON per command ({root, words}) and answers with
a line. The process stays, so a command costs milliseconds. A command that breaks a limit ends the
process, and judging.py starts another.
"""

import functools
import gc
import io
import json
import os
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path
from signal import SIG_DFL, SIGALRM, alarm, signal
from typing import Any

import typer

from tests.support.disk import leave_out_fsync

MEMORY = 2 * 2**30  # bytes that a command may take beside the loaded modules
CPU_SECONDS = 10
WALL_SECONDS = 40  # for what waits without working, such as a pipe that nobody writes to
ESCAPED = 70  # an error that the program did not foresee
WARM_UP = ["run", str(Path(__file__).parents[1] / "tiny_recipe.toml"), "--dry-run"]


def main() -> None:
    leave_out_fsync()
    questions = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    typer.main.get_command = functools.cache(typer.main.get_command)  # the same for every command
    with tempfile.TemporaryDirectory() as folder:  # what is loaded once counts for no case
        answer(Path(folder), WARM_UP)
    for line in questions:
        question = json.loads(line)
        said = json.dumps(_limited(Path(question["root"]), question["words"]))
        # A ledger in a cycle of objects would be closed later, and write its log into a file that a
        # case has damaged meanwhile.
        gc.collect()
        print(said, file=answers, flush=True)


def count_files(folder: Path) -> int:
    """The files in a folder, but the locks and the notes of who holds them."""
    names = (name for *_, names in os.walk(os.fsencode(folder)) for name in names)
    return sum(not name.endswith((b".lock", b"writer.txt")) for name in names)


def _limited(root: Path, words: list[str]) -> dict[str, Any]:
    os.environ |= {name: str(root / "home") for name in ("HOME", "XDG_CACHE_HOME")}
    os.environ["TMPDIR"], tempfile.tempdir = str(root / "tmp"), None
    os.chdir(root / "cwd")
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))
    most = int(time.process_time()) + 1 + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
    signal(SIGALRM, SIG_DFL)
    alarm(WALL_SECONDS)
    found = answer(root, words)
    alarm(0)
    return found | {"files": count_files(root / "out")}


def answer(root: Path, words: list[str]) -> dict[str, Any]:
    """Run one command as a shell would: its exit code, and what it wrote to its two streams."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        handle = os.open(root / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", "strict")
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace")
    code = _code(words)
    text = {}
    for name in ("stdout", "stderr"):
        text[name] = (root / name).read_bytes().decode("utf-8", "backslashreplace")
        (root / name).unlink()
    return {"code": code, **text}


def _code(words: list[str]) -> int:
    sys.argv = ["onmodel", *words]
    code = 0
    try:
        from onmodel.cli.main import main as command

        command()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else ESCAPED
    except BaseException:
        traceback.print_exc()
        code = ESCAPED
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        code = ESCAPED
    return code


if __name__ == "__main__":
    main()
