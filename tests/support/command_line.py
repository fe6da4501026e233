"""Runs `onmodel` commands, each in a process of its own, without the seconds that imports take.

A server process imports the package once and forks for every command. Tests of the start of a
process use `fresh`.
"""

import atexit
import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import pkgutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.support.disk import leave_out_fsync

ROOT = Path(__file__).parents[2]
_server: "subprocess.Popen[str] | None" = None
_lock = threading.Lock()


def onmodel(*words: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in the current folder, with these environment variables added."""
    if sys.platform != "linux":  # a fork is safe for all libraries on Linux only
        return fresh(*words, **environment)
    with tempfile.TemporaryDirectory() as folder, _lock:
        question = {
            "words": [str(word) for word in words],
            "cwd": os.getcwd(),
            "environment": {**os.environ, **environment},
            "folder": folder,
        }
        server = _started()
        assert server.stdin is not None and server.stdout is not None
        print(json.dumps(question), file=server.stdin, flush=True)
        code = int(server.stdout.readline())
        told = [(Path(folder) / name).read_text("utf-8") for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(question["words"], code, *told)


def fresh(*words: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in a process that begins with nothing imported."""
    command = [sys.executable, "-m", "onmodel", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}
    )


def imported(*words: object) -> set[str]:
    """The modules that a command imports, which must succeed."""
    code = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    code += "; from onmodel.cli.main import main; main()"
    run = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True)
    assert run.returncode == 0, run.stderr
    return set(run.stderr.decode().splitlines()[-1].split())


def _started() -> "subprocess.Popen[str]":
    global _server
    if _server is None:
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        _server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.command_line"],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": paths},
        )
        atexit.register(_server.communicate)  # the end of its input ends the server
    return _server


def _serve() -> None:
    import onmodel

    leave_out_fsync()

    for module in pkgutil.walk_packages(onmodel.__path__, "onmodel."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # an extra that is not installed
                importlib.import_module(module.name)
    gc.freeze()  # the pages of what is imported stay shared
    fork = multiprocessing.get_context("fork")
    for line in sys.stdin:
        process = fork.Process(target=_become, kwargs=json.loads(line))
        process.start()
        process.join()
        print(process.exitcode, flush=True)


def _become(words: list[str], cwd: str, environment: dict[str, str], folder: str) -> None:
    """Be the process of a command from now on."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for name in list(sys.modules):  # it reads its variables at import
        if name.partition(".")[0] == "huggingface_hub":
            del sys.modules[name]
    for name, number in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["onmodel", *words]
    from onmodel.cli.main import main

    main()


if __name__ == "__main__":
    _serve()
