"""Decode picture files from elsewhere in a separate process: a file that crashes, hangs or fills
the memory is refused, and the import continues.

    with Decoder() as decode:
        picture = decode(data, "#ffffff")

The process starts with the first picture, and again after a picture that ended it. It ends when its
input ends, so also when the parent process is killed, and when a picture takes too long. This is no
protection against a file that takes over the decoder; that needs a sandbox of the operating system.
"""

import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from PIL import Image

from onmodel.dataset.decoding import DecodedPicture, Refused, decode
from onmodel.dataset.formats import readable
from onmodel.dataset.pixels import SIDE
from onmodel.errors import OnmodelError
from onmodel.hashing import sha256_bytes

SECONDS = 120  # for one picture; 64 million pixels with a colour profile take 30 on a busy machine
MEMORY = (
    4 * 2**30
)  # bytes of address space, where the system can limit it; 64 million pixels take 1.2 GiB
_NUMBER = 8  # bytes of a number between the processes
_READY = b"ready"
# Threads and their memory pools take address space and do not help with one picture at a time.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


class Decoder:
    """Decodes as decoding.decode does, in a process of its own. Several threads may use one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        type: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._end()

    def __call__(self, data: bytes, background: str) -> DecodedPicture:
        """A checked picture. Raises Refused with the reason."""
        with self._lock:
            if self._process is None:
                self._process = _started()
            try:
                facts, rest = _asked(self._process, data, background)
            except (OSError, EOFError):
                code = self._end(patient=True)
                why = (
                    f"takes longer than {SECONDS} s to decode"
                    if code == 1
                    else f"crashes its decoder ({code})"
                )
                raise Refused(f"{why}; save it anew as PNG") from None
            except BaseException:
                self._end()  # what it still answers belongs to no question
                raise
        if "refused" in facts:
            raise Refused(facts["refused"])
        return DecodedPicture(
            data, sha256_bytes(data), small=Image.frombytes("RGB", (SIDE, SIDE), rest), **facts
        )

    def _end(self, patient: bool = False) -> int:
        """End the process; its exit code, which is its own when it is waited for."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        if patient:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # what was not written yet is for nobody
                pipe.close()  # type: ignore[union-attr]
        return process.wait()


def _started() -> "subprocess.Popen[bytes]":
    package = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
    process = subprocess.Popen(
        # -P: nothing is imported from the folder in which the user stands; it may be the
        # stranger's.
        [sys.executable, "-P", "-c", f"from {__name__} import answer; answer()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": paths},
    )
    assert process.stdout is not None
    if process.stdout.read(len(_READY)) != _READY:
        process.kill()
        raise OnmodelError(
            f"pictures cannot be decoded: their process does not start (exit code {process.wait()})"
        )
    return process


def _asked(
    process: "subprocess.Popen[bytes]", data: bytes, background: str
) -> tuple[dict[str, Any], bytes]:
    assert process.stdin is not None and process.stdout is not None
    _send(process.stdin, background.encode(), data)
    facts, rest = _received(process.stdout)
    return json.loads(facts), rest


def _send(pipe: IO[bytes], first: bytes, second: bytes) -> None:
    pipe.write(b"".join(len(part).to_bytes(_NUMBER, "big") for part in (first, second)) + first)
    pipe.write(second)
    pipe.flush()


def _received(pipe: IO[bytes]) -> tuple[bytes, bytes]:
    sizes = [int.from_bytes(_exactly(pipe, _NUMBER), "big") for _ in range(2)]
    return _exactly(pipe, sizes[0]), _exactly(pipe, sizes[1])


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def answer() -> None:
    """What the process does: decode what comes on stdin until it ends."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the one that asks; stdin ends with it
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not speak on the pipe
    _limit()
    readable()  # loads every decoder before the first clock runs
    replies.write(_READY)
    replies.flush()
    with open(os.devnull, "w") as nowhere, contextlib.suppress(EOFError):
        while True:
            background, data = _received(sys.stdin.buffer)
            faulthandler.dump_traceback_later(
                SECONDS, exit=True, file=nowhere
            )  # also where a decoder never returns
            try:
                picture = decode(data, background.decode())
                facts = {
                    name: getattr(picture, name)
                    for name in ("pixels", "suffix", "width", "height", "background", "profile")
                }
                rest = picture.small.tobytes()
            except Refused as reason:
                facts, rest = {"refused": str(reason)}, b""
            except (
                Exception
            ) as error:  # a fault of a decoder is one of the file, here at the edge of the process
                facts, rest = {"refused": f"damaged picture ({type(error).__name__})"}, b""
            faulthandler.cancel_dump_traceback_later()
            _send(replies, json.dumps(facts).encode(), rest)


def _limit() -> None:
    """Memory that a decoder asks for beyond the limit is refused to it, where the system can do
    that."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    for kind, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(OSError, ValueError):  # macOS knows the first and refuses it
            resource.setrlimit(kind, (most, most))
