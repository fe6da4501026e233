"""Runs commands of the program, those of a case in a forked process of their own.

`python -m tests.hostile.server [torch]`: a line of JSON comes in ({root, commands}), one goes out
(what came of each). The modules are loaded once, so a command costs milliseconds. Each case has its
own limits of memory and time, its own home and its own working folder. Without `torch` the modules
are those of pictures alone: a small process is forked faster.
"""

import contextlib
import functools
import gc
import io
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

MEMORY = 2 * 2**30  # bytes that a command may take beside the loaded modules
CPU_SECONDS = 10
WALL_SECONDS = 30  # for what waits without working, such as a pipe that nobody writes to
ESCAPED = 70  # an exception that the command line did not turn into a line


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    (_load_all if "torch" in sys.argv else _load)()
    gc.freeze()  # a collection in a fork would touch, and so copy, every page of what is loaded
    for line in sys.stdin:
        question = json.loads(line)
        print(
            json.dumps(_answers(Path(question["root"]), question["commands"])),
            file=answers,
            flush=True,
        )


def _load() -> None:
    """What commands on pictures load, so that a fork finds it there."""
    import typer
    from PIL import Image

    import onmodel.cli.main
    import onmodel.curate.gather
    import onmodel.engine.pipeline
    import onmodel.lora.merge_plan
    from onmodel.dataset.formats import readable

    Image.init()
    readable()
    for verb in onmodel.stages.VERBS:
        onmodel.engine.pipeline.stage_module(verb)
    typer.main.get_command = functools.cache(typer.main.get_command)  # the same for every command
    typer.main.get_command(onmodel.cli.main.app)


def _load_all() -> None:
    """What commands on models load, too."""
    _load()
    for name in (
        "diffusers",
        "transformers",
        "onnxruntime",
        "onmodel.curate.audit",
        "onmodel.doctor",
        "onmodel.families.anima.memory",
        "onmodel.families.anima.parts",
        "onmodel.engine.rebuild",
        "onmodel.release.check",
        "onmodel.release.push",
        "onmodel.report.collect",
    ):
        import_module(name)
    import torch

    torch.set_num_threads(1)


def _answers(root: Path, commands: list[list[str]]) -> list[dict[str, Any]]:
    pid = os.fork()
    if pid == 0:
        try:
            _child(root, commands)
        finally:  # whatever happens, the child never goes on as a server
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what the commands may have left running
    answers: list[dict[str, Any]] = []
    for number in range(len(commands)):
        out, err, end = (root / f"{name}{number}" for name in ("stdout", "stderr", "end"))
        if not out.exists():
            break
        ended = (
            json.loads(end.read_text())
            if end.exists()
            else {"code": os.waitstatus_to_exitcode(status), "files": 0}
        )
        text = {
            path.name[:6]: path.read_bytes().decode("utf-8", "backslashreplace")
            for path in (out, err)
        }
        answers.append(ended | text)
        for path in (out, err, end):
            path.unlink(missing_ok=True)
    return answers


def _child(root: Path, commands: list[list[str]]) -> None:
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ |= {
        "HOME": str(root / "home"),
        "TMPDIR": str(root / "tmp"),
        "XDG_CACHE_HOME": str(root / "home"),
    }
    tempfile.tempdir = None
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WALL_SECONDS)
    for number, words in enumerate(commands):
        os.chdir(root / "cwd")
        for name, stream in (("stdout", 1), ("stderr", 2)):
            os.dup2(
                os.open(root / f"{name}{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream
            )
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", "strict")
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace")
        code = _code(words)
        files = count_files(root / "out")
        (root / f"end{number}").write_text(json.dumps({"code": code, "files": files}))


def count_files(folder: Path) -> int:
    """The files in a folder, but the locks and the notes of who holds them."""
    names = (name for *_, names in os.walk(os.fsencode(folder)) for name in names)
    return sum(not name.endswith((b".lock", b"writer.txt")) for name in names)


def _code(words: list[str]) -> int:
    """Run one command as a shell would; its exit code."""
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
