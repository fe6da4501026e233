"""How a command ends: one line and an exit code for everything that can go wrong.

0     done
1     something outside the command's input failed; the line says what to do
2     a mistake in a recipe, a file or an argument; nothing was written
70    an internal error of onmodel; the line names a file with the details
130   stopped by Ctrl-C
141   whoever read the output closed it, as `head` does; there is no line
"""

import errno
import platform
import shlex
import sqlite3
import sys
import tempfile
import traceback
from importlib import metadata

from onmodel.errors import OnmodelError
from onmodel.text import one_line, printable, shown, without_secrets
from onmodel.version import __version__

INTERNAL, STOPPED, UNREAD = 70, 130, 141
PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "huggingface_hub",
    "pydantic",
    "typer",
    "rich",
    "Pillow",
)

_AGAIN = "run the same command again"
_LOCAL = "put the project on a local disk"
_CLOSE = f"close the program that has it open, then {_AGAIN}"
_OS_ERRORS = {
    "ENOSPC": f"no space left on the disk — free some room and {_AGAIN}",
    "EDQUOT": f"the disk quota is used up — free some room and {_AGAIN}",
    "EFBIG": "too large for this file system or its limit — use another disk, or raise `ulimit -f`",
    "EIO": (
        "the disk or network share reports an error — check its connection and health, then"
        f" {_AGAIN}"
    ),
    "EROFS": "the disk is read-only — name a folder that can be written",
    "EACCES": "permission denied — check its owner and permissions, or name another path",
    "EPERM": "not permitted — check its owner, permissions and attributes, or name another path",
    "EMFILE": (
        "too many open files in this process — raise the limit, e.g. `ulimit -n 4096`, and"
        f" {_AGAIN}"
    ),
    "ENFILE": f"too many open files on this machine — close other programs and {_AGAIN}",
    "ENAMETOOLONG": "the name or path is too long — choose a shorter one",
    "ENOLCK": f"this file system has no file locks — {_LOCAL}",
    "ENOSYS": f"the system cannot do this here — {_LOCAL}",
    "EOPNOTSUPP": f"this file system cannot do this — {_LOCAL}",
    "ENOTSUP": f"this file system cannot do this — {_LOCAL}",
    "EINVAL": (
        "the file system refuses this name or operation — choose a plain name on a local disk"
    ),
    "EXDEV": f"lies on another disk than its target — {_LOCAL}",
    "ENOENT": "no such file or folder — check the path",
    "ENOTDIR": "a part of the path is a file where a folder is needed — check the path",
    "EISDIR": "is a folder where a file is needed — name a file",
    "EEXIST": "exists already — name another path, or move it away",
    "ENOTEMPTY": "the folder is not empty — name another path, or move its content away",
    "ELOOP": "its links lead in a circle — name the file itself",
    "EBUSY": f"in use by another program — {_CLOSE}",
    "ETXTBSY": f"in use by another program — {_CLOSE}",
    "EDEADLK": f"locked by another program — {_CLOSE}",
    "EAGAIN": f"the system lacks a resource at the moment — {_AGAIN}",
    "ENXIO": "is no regular file — name a file on the disk",
    "ENODEV": "the device is gone — connect it, or name another path",
    "ESPIPE": "is no regular file — name a file on the disk",
    "ESTALE": f"the network share has changed — mount it again, then {_AGAIN}",
    "ETIMEDOUT": f"no answer in time — check the network, then {_AGAIN}",
    "ECONNREFUSED": "the connection was refused — check the address, and that its server runs",
    "ECONNRESET": f"the other side closed the connection — {_AGAIN}",
    "EHOSTUNREACH": f"the machine cannot be reached — check the network, then {_AGAIN}",
    "ENETUNREACH": f"the network cannot be reached — check it, then {_AGAIN}",
    "EADDRINUSE": "the port is taken — choose another, or 0 for a free one",
    "EADDRNOTAVAIL": "this machine does not have the address — check it",
    "ENOMEM": f"not enough memory — close other programs and {_AGAIN}",
}
_BY_NUMBER = {
    getattr(errno, name): line for name, line in _OS_ERRORS.items() if hasattr(errno, name)
}
_WRONG_PATHS = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)  # a user's mistake
_BY_WINDOWS_NUMBER = {
    32: _OS_ERRORS["EBUSY"],
    33: _OS_ERRORS["EBUSY"],
    206: _OS_ERRORS["ENAMETOOLONG"],
}
_DATABASE = {
    sqlite3.SQLITE_BUSY: f"another process writes to it — wait for it, then {_AGAIN}",
    sqlite3.SQLITE_LOCKED: f"another process writes to it — wait for it, then {_AGAIN}",
    sqlite3.SQLITE_FULL: _OS_ERRORS["ENOSPC"],
    sqlite3.SQLITE_IOERR: f"{_OS_ERRORS['EIO']}; if it stays, {_LOCAL}",
    sqlite3.SQLITE_READONLY: (
        "cannot be written — check its owner and permissions, and those of its folder"
    ),
    sqlite3.SQLITE_CANTOPEN: "cannot be opened — check its permissions, and those of its folder",
    sqlite3.SQLITE_CORRUPT: "is damaged — restore it from a backup, or use a new project folder",
    sqlite3.SQLITE_NOTADB: "is damaged — restore it from a backup, or use a new project folder",
}
_MEMORY = (
    "not enough memory — close other programs, or use smaller pictures, batches or ranks, and"
    f" {_AGAIN}"
)


def outcome(error: BaseException) -> tuple[str, int]:
    """The line on stderr and the exit code for what ended a command."""
    match error:
        case OnmodelError():
            return str(error), error.exit_code
        case BrokenPipeError():
            return "", UNREAD
        case KeyboardInterrupt():
            return f"stopped; {_AGAIN} to go on where it stopped", STOPPED
        case OSError() if words := os_error_words(error):
            return words, 2 if error.errno in _WRONG_PATHS else 1
        case sqlite3.Error() if words := _database_words(error):
            return f"the project's onmodel.db: {words}", 1
        case _ if _is_memory(error):
            return _MEMORY, 1
        case RecursionError():
            return f"an input is nested too deeply — make it flatter; {_reported(error)}", 1
        case UnicodeError():
            return f"a name or text is not valid Unicode — use UTF-8; {_reported(error)}", 1
    said = shown(one_line(without_secrets(str(error))), 200)
    kind = type(error).__name__
    return f"internal error: {kind}{': ' * bool(said)}{said}; {_reported(error)}", INTERNAL


def os_error_words(error: OSError) -> str:
    """What an error of the operating system means and what to do, on one line; "" for an unknown
    one."""
    line = _BY_WINDOWS_NUMBER.get(getattr(error, "winerror", None) or 0) or _BY_NUMBER.get(
        error.errno or 0, ""
    )
    names = [_path(name) for name in (error.filename, error.filename2) if name not in (None, "")]
    subject = " → ".join(names)
    return printable(without_secrets(f"{subject}: {line}" if line and subject else line))


def _database_words(error: sqlite3.Error) -> str:
    """The low byte of SQLite's extended codes is the kind."""
    return _DATABASE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "")


def _path(name: object) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)


def _is_memory(error: BaseException) -> bool:
    """Python's and NumPy's MemoryError, torch's OutOfMemoryError and the plain RuntimeError of its
    CPU allocator."""
    words = str(error).lower()
    said = (
        "out of memory" in words or "can't allocate memory" in words or "not enough memory" in words
    )
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and said)


def _reported(error: BaseException) -> str:
    """Write the details to a file that only the user can read, and say where it is."""
    facts = [f"onmodel {__version__}, Python {platform.python_version()}, {platform.platform()}"]
    facts += [f"{name} {version}" for name in PACKAGES if (version := _version(name))]
    facts += [f"command: {shlex.join(sys.argv)}", "", *traceback.format_exception(error)]
    try:
        with tempfile.NamedTemporaryFile(  # 0600, and never a file or link that is there already
            "w",
            encoding="utf-8",
            errors="backslashreplace",
            prefix="onmodel-error-",
            suffix=".txt",
            delete=False,
        ) as file:
            file.write(without_secrets("\n".join(facts)))
    except OSError as unwritten:
        return f"its details could not be written ({unwritten.strerror})"
    return f"please report it with the file {file.name}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
