"""The process that decodes files of others: what kills it is one refused file, and it never
outlives its parent."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from onmodel.dataset import decoder
from onmodel.dataset.decoder import Decoder
from onmodel.dataset.decoding import Refused, decode
from onmodel.errors import OnmodelError

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no such signal or limit")


def png(mode: str = "RGB", colour: object = (200, 30, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (64, 48), colour).save(buffer, "PNG")  # type: ignore[arg-type]
    return buffer.getvalue()


def children() -> list[psutil.Process]:
    return psutil.Process().children()


def test_it_decodes_as_this_process_does() -> None:
    with Decoder() as apart:
        for data, paper in (
            (png(), "#ffffff"),
            (png("RGBA", (0, 0, 0, 0)), "#20A040"),
            (png("1", 1), "#ffffff"),
        ):
            here, there = decode(data, paper), apart(data, paper)
            assert here.small.tobytes() == there.small.tobytes()
            assert all(
                getattr(here, name) == getattr(there, name)
                for name in here.__slots__
                if name != "small"
            )
        with pytest.raises(Refused, match="not a PNG"):
            apart(b"hello", "#ffffff")
        with pytest.raises(Refused, match="damaged"):
            apart(png()[:60], "#ffffff")


def test_one_process_serves_many_pictures_and_ends_with_its_block() -> None:
    before = children()
    with Decoder() as apart:
        assert children() == before  # nothing is started before it is needed
        for _ in range(3):
            apart(png(), "#ffffff")
        (process,) = [one for one in children() if one not in before]
    assert not process.is_running()


def test_it_loads_no_torch_and_nothing_from_the_folder_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("raise SystemExit('a file of others was run')")
    monkeypatch.chdir(tmp_path)
    with Decoder() as apart:
        assert apart(png(), "#ffffff").width == 64
    code = (
        "import sys, onmodel.dataset.decoder; print({'torch', 'scipy', 'pydantic'} &"
        " set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(decoder.__file__).parents[2])}
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environment
    )
    assert run.stdout.strip() == "set()"


def harmed(monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    """Start the process so that a picture of 48 pixels' height does harm, and every other is
    decoded."""
    code = f"""
import ctypes, os, time
import onmodel.dataset.decoder as one
whole = one.decode
def decode(data, paper):
    picture = whole(data, paper)
    if picture.height == 48:
        {harm}
    return picture
one.decode = decode
{{start}}
one.answer()
"""
    real = subprocess.Popen

    def popen(command: list[str], **options: object) -> object:
        start = "one.SECONDS = 1; one.MEMORY = 2**30"
        return real([*command[:-1], code.replace("{start}", start)], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(decoder.subprocess, "Popen", popen)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        pytest.param("ctypes.string_at(0)", "crashes its decoder", id="reads where nothing is"),
        pytest.param("os.abort()", "crashes its decoder", id="aborts"),
        pytest.param("while True: pass", "takes longer", id="never ends"),
        pytest.param("time.sleep(60)", "takes longer", id="waits"),
        pytest.param(
            "ctypes.PyDLL(None).usleep(20_000_000)",
            "takes longer",
            id="never gives the interpreter back",
            marks=posix,
        ),
        pytest.param("bytearray(4 * 2**30)", "MemoryError", id="fills the memory", marks=posix),
        pytest.param("1 / 0", "ZeroDivisionError", id="is wrong"),
        pytest.param("os.write(1, b'printed')", "", id="prints"),
    ],
)
def test_what_harms_it_is_one_refused_file(
    monkeypatch: pytest.MonkeyPatch, harm: str, reason: str
) -> None:
    harmed(monkeypatch, harm)
    other = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(other, "PNG")
    with Decoder() as apart:
        if reason:
            with pytest.raises(Refused, match=reason):
                apart(png(), "#ffffff")
        else:
            assert apart(png(), "#ffffff").height == 48
        assert apart(other.getvalue(), "#ffffff").height == 64


def test_a_process_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder.sys, "executable", sys.executable)
    real = subprocess.Popen
    monkeypatch.setattr(
        decoder.subprocess,
        "Popen",
        lambda command, **options: real([*command[:-1], "raise SystemExit(7)"], **options),
    )
    with Decoder() as apart, pytest.raises(OnmodelError, match=r"does not start \(exit code 7\)"):
        apart(png(), "#ffffff")


@posix
@pytest.mark.parametrize("end", ["SIGINT", "SIGKILL", "SIGTERM"])  # Windows lacks one
def test_it_ends_with_the_process_that_started_it(end: str) -> None:
    code = """
import io, signal, time
from PIL import Image
from onmodel.dataset.decoder import Decoder
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
buffer = io.BytesIO()
Image.new("RGB", (64, 48)).save(buffer, "PNG")
with Decoder() as apart:
    apart(buffer.getvalue(), "#ffffff")
    print(apart._process.pid, flush=True)
    time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(decoder.__file__).parents[2])}
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    assert run.stdout is not None
    worker = psutil.Process(int(run.stdout.readline()))
    run.send_signal(getattr(signal, end))
    run.wait(20)
    deadline = time.monotonic() + 20
    while (
        worker.is_running()
        and worker.status() != psutil.STATUS_ZOMBIE
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
