"""Runs commands of the program, each in a forked process of its own: `python -m tests.hostile.server [torch]`.

A line of JSON comes in ({root, words}), a line of JSON goes out (what came of it). The modules are loaded once, so a
command costs milliseconds; and each has its own limits of memory and time, its own home and its own working folder.
Without `torch` the modules are those of pictures alone: a small process is forked faster.
"""

import contextlib
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
        print(json.dumps(_answer(Path(question["root"]), question["words"])), file=answers, flush=True)


def _load() -> None:
    """What commands on pictures load, so that a fork finds it there."""
    from PIL import Image

    import onmodel.cli.main
    import onmodel.curate.gather
    import onmodel.merge.plan  # noqa: F401
    from onmodel.dataset.formats import readable

    Image.init()
    readable()


def _load_all() -> None:
    """What commands on models load, too."""
    _load()
    for name in (
        "diffusers", "transformers", "onnxruntime", "onmodel.curate.audit", "onmodel.doctor",
        "onmodel.models.anima.outline", "onmodel.models.anima.parts", "onmodel.pipeline", "onmodel.rebuild",
        "onmodel.release.check", "onmodel.release.push", "onmodel.report.collect",
    ):  # fmt: skip
        import_module(name)
    import torch

    torch.set_num_threads(1)


def _answer(root: Path, words: list[str]) -> dict[str, Any]:
    out, err = root / "stdout", root / "stderr"
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(_child(root, words, out, err))
        finally:  # whatever happens, the child never goes on as a server
            os._exit(ESCAPED)
    _, status, used = os.wait4(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what the command may have left running
    code = os.waitstatus_to_exitcode(status)
    answer = {
        "code": code, "stdout": out.read_bytes().decode("utf-8", "backslashreplace"),
        "stderr": err.read_bytes().decode("utf-8", "backslashreplace"),
        "seconds": used.ru_utime + used.ru_stime,
    }  # fmt: skip
    out.unlink()
    err.unlink()
    return answer


def _child(root: Path, words: list[str], out: Path, err: Path) -> int:
    os.setsid()
    for path, number in ((out, 1), (err, 2)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", "strict")
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", line_buffering=True)
    os.environ |= {"HOME": str(root / "home"), "TMPDIR": str(root / "tmp"), "XDG_CACHE_HOME": str(root / "home")}
    tempfile.tempdir = None
    os.chdir(root / "cwd")
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WALL_SECONDS)
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
    except (OSError, UnicodeError):
        code = ESCAPED
    return code


if __name__ == "__main__":
    main()
