"""The entry point: how commands end, whatever goes wrong, and whatever reads their output."""

import errno
import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from onmodel.cli import main
from onmodel.errors import ServiceError, SpaceError

CODES = tuple(
    getattr(errno, name)
    for name in (
        "ENOSPC",
        "EDQUOT",
        "EIO",
        "EROFS",
        "EACCES",
        "EPERM",
        "EMFILE",
        "ENFILE",
        "ENAMETOOLONG",
        "ENOLCK",
        "ENOSYS",
        "EOPNOTSUPP",
        "ENOENT",
        "ENOTDIR",
        "EISDIR",
        "ELOOP",
        "EBUSY",
        "ESTALE",
        "ETIMEDOUT",
        "EINVAL",
        "EXDEV",
        "EEXIST",
    )
    if hasattr(errno, name)
)


@pytest.fixture
def ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[[BaseException], tuple[int, str]]:
    """Run a command that ends with this error: its exit code and what it wrote on stderr."""

    def end(error: BaseException) -> tuple[int, str]:
        def failing(*_: object) -> None:
            raise error

        monkeypatch.setattr("onmodel.release.verify.verify", failing)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.setattr(sys, "argv", ["onmodel", "release", "verify", "."])
        with pytest.raises(SystemExit) as raised:
            main.main()
        return raised.value.code, capsys.readouterr().err  # type: ignore[return-value]

    return end


Ended = Callable[[BaseException], tuple[int, str]]


def test_a_command_that_is_stopped_says_how_to_go_on(ended: Ended) -> None:
    line = "onmodel: stopped; run the same command again to go on where it stopped\n"
    assert ended(KeyboardInterrupt()) == (130, line)


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
def test_an_error_of_the_system_is_one_line_with_a_remedy(ended: Ended, code: int) -> None:
    status, said = ended(OSError(code, os.strerror(code), "a\nb"))
    wrong_path = code in (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
    )
    assert status == 1 + wrong_path and re.fullmatch(r"onmodel: a\\nb: .+ — .+\n", said)


def test_a_file_that_another_program_holds_on_windows_is_said_so(ended: Ended) -> None:
    error = PermissionError(errno.EACCES, "sharing violation", "a.db")
    error.winerror = 32  # type: ignore[attr-defined,unused-ignore]
    assert "another program" in ended(error)[1]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            "not enough memory",
        ),
        (RecursionError("maximum recursion depth"), "nested too deeply"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "not valid Unicode"),
        (
            UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates not allowed"),
            "not valid Unicode",
        ),
    ],
)
def test_other_limits_are_one_line_too(ended: Ended, error: Exception, said: str) -> None:
    status, line = ended(error)
    assert status == 1 and said in line and line.count("\n") == 1


def test_a_damaged_and_a_locked_database_are_said_so(ended: Ended, tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_bytes(b"no database" * 100)
    with (
        pytest.raises(sqlite3.DatabaseError) as damaged,
        sqlite3.connect(tmp_path / "bad.db") as database,
    ):
        database.execute("select * from a")
    status, line = ended(damaged.value)
    assert status == 1 and "is damaged" in line
    first, second = (
        sqlite3.connect(tmp_path / "a.db", timeout=0, isolation_level=None) for _ in range(2)
    )
    first.execute("begin exclusive")
    with pytest.raises(sqlite3.OperationalError) as locked:
        second.execute("create table a (b)")
    assert "another process" in ended(locked.value)[1]


def test_the_unforeseen_is_one_line_and_a_private_file(
    ended: Ended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-private")
    status, line = ended(ValueError("bad\x1b[31m value of sk-very-private"))
    (file,) = tmp_path.glob("onmodel-error-*")
    assert status == 70 and line.count("\n") == 1 and str(file) in line and "\x1b" not in line
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 or os.name == "nt"
    details = file.read_text(encoding="utf-8")
    assert (
        "Traceback" in details
        and "command: onmodel release verify ." in details
        and "onmodel 0" in details.splitlines()[0]
    )
    assert "sk-very-private" not in line + details


def test_the_unforeseen_on_a_full_disk_is_still_one_line(
    ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
    status, line = ended(KeyError("x"))
    assert status == 70 and line.count("\n") == 1 and "could not be written" in line


@pytest.mark.parametrize("error", [SpaceError("a"), ServiceError("http://me:word@host/v1 is away")])
def test_errors_of_onmodel_keep_their_line_without_secrets(ended: Ended, error: Exception) -> None:
    status, line = ended(error)
    assert (status, line) == (1, f"onmodel: {error}\n") and "word" not in line


@pytest.mark.parametrize(
    "words",
    [
        ["nosuch"],
        ["run"],
        ["run", "a", "b", "c"],
        ["judge", ".", "--port", "x"],
        ["judge", ".", "--nosuch"],
        ["dataset", "choose", "w", "-c", "s", "-k", "0"],
        ["nos\x1b[31much"],
        ["release", "verify", "--nosuch\x1b[31m"],
        ["release", "verify", "a\0b"],
        ["release", "verify", "n" * 300],
        ["release", "lineage", "n" * 300],
        ["release", "lineage", "n" * 5000],
        ["release", "check", "/dev/null/a"],
        ["release", "push", ".", "x" * 300],
    ],
)
def test_a_wrong_argument_is_one_line_and_code_2(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["onmodel", *words])
    with pytest.raises(SystemExit) as raised:
        main.main()
    said = capsys.readouterr().err
    assert raised.value.code == 2 and re.fullmatch(r"onmodel: [^\n\x1b]+\n", said), said


NUMBERS = [
    ["dataset", "choose", "w", "-c", "s", "-k", "1", "--spread"],
    ["dataset", "caption", "w", "-c", "s", "--timeout"],
    ["dataset", "synthesize", "w", "-c", "s", "-n", "1", "--weight"],
    ["dataset", "synthesize", "w", "-c", "s", "-n", "1", "--guidance"],
    ["lora", "merge", "plan", "a", "b", "--energy"],
    ["lora", "merge", "plan", "a", "b", "--decay"],
    ["lora", "merge", "plan", "a", "b", "--density"],
]


@pytest.mark.parametrize("words", NUMBERS, ids=lambda words: " ".join(words[:2]) + words[-1])
@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "x", ""])
def test_a_number_that_is_none_is_refused_before_anything_is_read(
    words: list[str],
    number: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["onmodel", *words, number])
    with pytest.raises(SystemExit) as raised:
        main.main()
    said = capsys.readouterr().err
    assert raised.value.code == 2 and words[-1] in said and said.count("\n") == 1, said


WRONG_PATHS = ["folder", "file", "missing", "loop", "file/x", "n" * 300, "a\0b"]
COMMANDS = [
    "run X",
    "init new --pictures X --trigger a --name b",
    "evaluate X --sheet SHEET -o new",
    "evaluate file --sheet X -o new",
    "run X --until train",
    "judge X",
    "release verify X",
    "release lineage X",
    "release prove X folder --project folder",
    "release prove file X --project folder",
    "release rebuild X",
    "report X",
    "influence X train",
    "experiment run X second",
    "experiment report X second",
    "experiment status X second",
    "dataset import X -o new",
    "dataset import folder -o X",
    "dataset audit X -c SHEET",
    "dataset audit folder -c X",
    "dataset fix X id",
    "dataset undo X",
    "dataset labels X",
    "dataset caption X -c SHEET",
    "dataset synthesize X -c SHEET -n 1",
    "dataset plan X -c SHEET",
    "dataset choose X -c SHEET -k 1",
    "dataset report X -c SHEET",
    "dataset export X --out new",
    "lora convert X --out new.safetensors",
    "release push X a/b",
    "lora merge plan X X",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_path_is_one_line_for_every_command(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("hello")
    (tmp_path / "loop").symlink_to("loop")
    sheet = str(Path(main.__file__).parents[1] / "toon/characters/backgwa.toml")
    for path in WRONG_PATHS:
        words = [{"X": path, "SHEET": sheet}.get(word, word) for word in command.split()]
        monkeypatch.setattr(sys, "argv", ["onmodel", *words])
        with pytest.raises(SystemExit) as raised:
            main.main()
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  ")]
        assert (
            raised.value.code in (1, 2) and len(lines) == 1 and lines[0].startswith("onmodel: ")
        ), (path, lines)


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    line = command.replace("onmodel", f"'{sys.executable}' -m onmodel")
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("onmodel --version | true; exit ${PIPESTATUS[0]}", 141, ""),
        ("onmodel --help | true; exit ${PIPESTATUS[0]}", 141, ""),
        ("onmodel --version >&-", 0, ""),
        ("onmodel --version >&- 2>&-", 0, ""),
        ("onmodel nosuch 2>&-", 2, ""),
        ("onmodel --version > /dev/full", 1, "onmodel: no space left"),
    ],
)
def test_a_closed_or_full_output_ends_a_command_quietly(
    command: str, code: int, said: str, unbuffered: str
) -> None:
    done = shell(command, PYTHONUNBUFFERED=unbuffered)
    assert (
        done.returncode == code and done.stderr.startswith(said) and "Traceback" not in done.stderr
    )
    assert done.stderr.count("\n") == bool(said)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "ascii:strict", "cp437", "utf-16"])
def test_a_stream_that_lacks_a_sign_shows_its_escape(encoding: str, tmp_path: Path) -> None:
    name = tmp_path / "→ 絵 \N{GRINNING FACE}"
    name.mkdir()
    code = (
        "import sys; from onmodel.cli.console import PlainConsole, open_streams, say, say_json;"
        " open_streams()\nfor text in sys.argv[1:]: say(text); say(text, stderr=True);"
        " PlainConsole().print(text); say_json(text)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(name), "— ×"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    if encoding == "ascii":
        assert rb"\u2192 \u7d75 \U0001f600" in done.stdout
