"""Folders of a machine inside texts: found by their form, and taken out of what is written.

An absolute path of two parts or more, a drive, a network share, `~/x`, `$HOME/x`,
`%USERPROFILE%\\x`, `../../x` and `file://` count. Addresses of the web, ids such as `owner/name`,
dates, fractions and base64 do not.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from onmodel.text import shown

_SHOWN = 3  # of the paths that a text names

# Parts of a text that hold slashes and name no folder: data URLs, addresses, and a JPEG in base64.
_NO_PATHS = re.compile(
    r"data:[\w.+/-]{1,80};base64,[A-Za-z0-9+/=]*"
    r"|(?<![A-Za-z0-9])(?!(?:file|smb|nfs|afp):)[A-Za-z][A-Za-z0-9+.-]{1,20}:(?:\\?/){2}[^\s\"'<>]*"
    r"|/9j/[A-Za-z0-9+/=]{16,}"
)
_PART = r"[\w.@+%&#$~-]"
_ROOTS = "home|Users|root|mnt|media|workspace|content|kaggle|data|tmp|var|opt|srv|Volumes"
_STARTS = (
    r"(?:file|smb|nfs|afp):/{1,3}\w",
    # a drive; texts in texts double the backslash
    r"(?<![A-Za-z0-9])[A-Za-z]:(?:\\{1,4}|/{1,2})[\w.(@$%~-]",
    r"(?<![\w\\])\\{2,8}(?!u[0-9a-f]{4})[\w.?$-]+\\{1,4}[\w.$]",  # a share of Windows
    r"(?<![\w:/\\.+])//[\w$-]+/\w",  # the same with slashes
    r"(?<![\w.])~(?:[A-Za-z_][\w-]*)?[\\/]{1,2}[\w.]",
    r"(?<!\w)\$(?:env:)?\{?[A-Za-z_]\w*\}?[\\/]{1,4}[\w.]",
    r"(?<!\w)%[A-Za-z_]\w*%[\\/]{1,4}[\w.]",
    r"(?<![\w.])(?:\.\.[\\/]{1,2}){2}[\w.]",
    r"(?<![\w.])\.\.[\\/]{1,2}[\w-]+[\\/]{1,2}\w",
    rf"(?:^|(?<=[\s\"'`(\[{{=,;:|>]))/(?=[\w.@+%&#$~-]*[^\W\d_])[\w.@$]{_PART}*/[\w.]",
    rf"(?<![\w./:<\\+])/(?:{_ROOTS})/[\w.]",
    rf"(?<=[^\W\x00-\x7f])/(?:{_ROOTS})/[\w.]",  # after a sign of a script that writes no spaces
)
_START = "|".join(f"(?:{start})" for start in _STARTS)
_PATH = re.compile(rf"(?:{_START})[^\s\"',;)]*", re.M)
# To its end, spaces too: what is left over of `/Volumes/My Disk/x` would name the folder.
_WHOLE = re.compile(rf"(?:{_START})(?:[^\s\"',;)]|[ ](?=[^\"',;\n]{0, 200}[\\/]))*", re.M)


def author_paths(text: str) -> list[str]:
    """The folders of a machine that a text names, also inside JSON; the first three."""
    found = (
        shown(path.strip(), 80) for piece in _strings(text) for path in _PATH.findall(_plain(piece))
    )
    return list(dict.fromkeys(found))[:_SHOWN]


def without_author_paths(text: str) -> str:
    """The text with every path replaced by its last part, and as it is where it names none. What
    cannot be taken apart so is left out whole.
    """
    if not author_paths(text):
        return text
    table = _parsed(text)
    try:
        cut = (
            _cut(text)
            if table is None
            else json.dumps(_mapped(table, without_author_paths), ensure_ascii=False)
        )
    except RecursionError:
        return ""
    return "" if author_paths(cut) else cut


def _cut(text: str) -> str:
    if match := _WHOLE.match(text.strip()):  # nothing but a path, whatever signs are in it
        return _last(text.strip()) if match.start() == 0 else ""
    return _WHOLE.sub(lambda match: _last(match[0]), text)


def _last(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/ "))[-1]


def _plain(text: str) -> str:
    return _NO_PATHS.sub(" ", text)


def _strings(text: str) -> Iterator[str]:
    """The text, or where it is JSON the strings in it, keys too, so that no escape of JSON looks
    like a path."""
    waiting: list[Any] = [text]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str):
            table = _parsed(value)
            if table is None:
                yield value
            else:
                waiting.append(table)


def _parsed(text: str) -> Any:
    """The value of a text that is JSON of one or more strings, else None."""
    if not text.lstrip().startswith(("{", "[", '"')):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_mapped(one, change) for one in value]
    if isinstance(value, dict):
        return {change(key): _mapped(one, change) for key, one in value.items()}
    return value
