"""Text of strangers: what it cannot do to a terminal, a message, a Markdown file or a CSV file."""

import csv
import io
import json

import pytest
from rich.table import Table

from onmodel.cli.console import PlainConsole, say
from onmodel.cli.render import on_terminal
from onmodel.errors import InputError
from onmodel.text import (
    code_span,
    csv_cell,
    is_printable,
    markdown,
    one_line,
    shown,
    without_secrets,
)

HOSTILE = [
    "a\x1b[31mred",
    "a\nonmodel: all is well",
    "a\rb",
    "a\x9b31m",
    "a\u202eb",
    "a\u2028b",
    "a\udc80b",
    "[bold]a[/bold]",
    "[/]",
    "[link=http://x]a[/link]",
    ":skull:",
    "a\x07",
    "a\x00b",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_strangers_text_is_shown_as_it_is_on_one_line(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = io.StringIO()
    console = PlainConsole(file=file, width=200, force_terminal=True, color_system="truecolor")
    console.print(text)
    table = Table(text, box=None, title="t")
    table.add_row(text)
    console.print(table)
    with on_terminal(PlainConsole(file=file, width=200)) as events, events.task(text, 1) as task:
        task.advance(1, text)
    say(text)
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1 and is_printable(shown[:-1])
    lines = (
        file.getvalue()
        .replace("\x1b[1m", "")
        .replace("\x1b[3m", "")
        .replace("\x1b[0m", "")
        .splitlines()
    )
    assert (
        len(lines) == 5 and all(is_printable(line) for line in lines) and shown.strip() in lines[0]
    )


@pytest.mark.parametrize(
    "text",
    [
        "http://me:word12@host/v1",
        "https://me:wo/rd12@host",
        "see http://me:a@word12@host:80/v1 now",
        "x://word12@h/",
        "http://h/v1?api_key=word12",
        "http://h/v1?a=b&X-Amz-Signature=word12",
        "http://h?token=word12#x",
        "Authorization: Bearer word12",
        "authorization: Basic word12==",
        "key hf_word12aaaaaaaaaaaaaaaa",
        "the env/word12",
        "the env%2Fword12",
    ],
)
def test_no_secret_is_left_in_a_message(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "env/word12")
    assert "word12" not in without_secrets(text)
    assert "word12" not in str(InputError("endpoint", text, text))


@pytest.mark.parametrize(
    "text",
    [
        "http://host:8080/v1",
        "http://host/a@b",
        "hf://owner/name@main/folder",
        "the token is missing",
        "bearer of news",
        "http://127.0.0.1:8080/v1 and me@host",
        "--key=value",
        "basic clothing",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text, ["", "none"]) == text


def test_an_answer_of_megabytes_is_some_words() -> None:
    assert len(shown(one_line("a\x1b " * 10**6), 100)) <= 100 and one_line("a\n b") == "a b"


MARKUP = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a](javascript:alert(1))",
    "![a](x)",
    "a | b",
    "`a`",
    "**a**",
    "_a_",
    "~~a~~",
    "&lt;script&gt;",
    "a\n# b",
    "a\n<script>",
    "<!-- a",
    "$a$",
    "\\<b>",
    "\\`a`",
]


@pytest.mark.parametrize("text", MARKUP)
def test_markup_of_a_stranger_is_words_in_markdown(text: str) -> None:
    line = markdown(text)
    assert "\n" not in line and "<" not in line and ">" not in line
    rest = line.replace(r"\\", "")
    for sign in "`*[]|~$":
        assert rest.count(sign) == rest.count("\\" + sign)
    span = code_span(text)
    assert span.count("`") == 2 and span[0] == span[-1] == "`" and "\n" not in span


@pytest.mark.parametrize(
    "text", ["plain", "release_2@15", "Tom's 5 – 7", "https://a.b/c_d?e=f", "絵"]
)
def test_plain_words_stay_as_they_are_in_markdown(text: str) -> None:
    assert markdown(text) == text


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_runs_no_name_as_a_formula(text: str) -> None:
    assert str(csv_cell(text))[0] == "'"


@pytest.mark.parametrize("value", [-1.5, 3, None, "a", "a=b", ""])
def test_numbers_and_names_stay_as_they_are_in_a_table(value: object) -> None:
    assert csv_cell(value) == value


def test_csv_and_json_of_hostile_names_are_read_back() -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(map(csv_cell, ["=1", 'a"b', "a,b"]))
    assert next(csv.reader(io.StringIO(buffer.getvalue()))) == ["'=1", 'a"b', "a,b"]
    assert json.loads(json.dumps(HOSTILE)) == HOSTILE
