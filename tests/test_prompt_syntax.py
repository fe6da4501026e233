"""Prompts are read as ComfyUI reads them."""

import pytest

from onmodel.prompt_syntax import Segment, commands, escaped, plain, segments


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("1girl, smile", [("1girl, smile", 1.0)]),
        ("", [("", 1.0)]),
        ("a (b:1.3), c", [("a ", 1.0), ("b", 1.3), (", c", 1.0)]),
        ("(b)", [("b", 1.1)]),
        ("((b))", [("b", 1.1 * 1.1)]),
        ("(a (b) c:2)", [("a ", 2.0), ("b", 2.0 * 1.1), (" c", 2.0)]),
        ("(a (b:0.5))", [("a ", 1.1), ("b", 0.5)]),
        (r"saber \(fate\), x", [("saber (fate), x", 1.0)]),
        (r"(saber \(fate\):1.2)", [("saber (fate)", 1.2)]),
        ("(a: b)", [("a: b", 1.1)]),
        ("(:1.3)", [(":1.3", 1.1)]),
        ("[b], :), a", [("[b], :), a", 1.0)]),
        ("a (b", [("a ", 1.0), ("(b", 1.0)]),
        ("(b:0)", [("b", 0.0)]),
    ],
)
def test_weights_and_escapes(prompt: str, expected: list[tuple[str, float]]) -> None:
    found = [(segment.text, pytest.approx(segment.weight)) for segment in segments(prompt)]
    assert found == expected


@pytest.mark.parametrize("tag", ["saber (fate)", r"saber \(fate\)", ":)", "(a:2)", "))((", "\\"])
def test_an_escaped_text_is_that_text(tag: str) -> None:
    assert segments(escaped(f"1girl, {tag}, x")) == [Segment(f"1girl, {tag}, x")]


def test_plain_words_have_no_weights() -> None:
    assert plain(r"(a:1.3), saber \(fate\)") == "a, saber (fate)"


@pytest.mark.parametrize("weight", ["nan", "inf", "1e999"])
def test_a_weight_is_finite(weight: str) -> None:
    with pytest.raises(ValueError, match="write a number such as"):
        segments(f"(a:{weight})")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("1girl, <lora:my one:0.8>, smile", ["<lora:my one:0.8>"]),
        ("a BREAK b, BREAK, <LORA:x:1>", ["BREAK", "BREAK", "<LORA:x:1>"]),
        ("(embedding:easyneg:1.2), __pose__, {red|blue} hair", None),
        ("break dance, embedding, ^_^, {a}, >_<, __", []),
    ],
)
def test_what_other_programs_act_on_is_found(prompt: str, expected: list[str] | None) -> None:
    wanted = ["embedding:easyneg:1.2", "__pose__", "{red|blue}"] if expected is None else expected
    assert commands(prompt) == wanted
