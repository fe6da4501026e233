"""Numbers, ticks and scales of the report's drawings."""

import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onmodel.report.svg import Scale, element, number, ticks
from onmodel.text import decimal


def test_text_is_escaped_and_markup_kept() -> None:
    inner = element("b", "a < b")
    assert (
        str(element("text", inner, class_="x", stroke_width=1.5, title=None))
        == '<text class="x" stroke-width="1.5"><b>a &lt; b</b></text>'
    )
    assert 'href="&#34;&gt;"' in str(element("a", href='">'))


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (100.0, "100"), (0.126, "0.13"), (-0.001, "0"), (2.50, "2.5")]
)
def test_coordinates_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_decimals_have_a_real_minus_and_no_negative_zero() -> None:
    assert decimal(-1.25, 1) == "\N{MINUS SIGN}1.2"
    assert decimal(-0.001, 2, signed=True) == "0.00"
    assert decimal(3, 1, signed=True) == "+3.0"


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_are_few_even_and_inside(low: float, width: float) -> None:
    marks = ticks(low, low + width)
    assert 1 <= len(marks) <= 6
    assert all(low - 1e-6 * width <= mark <= low + width * (1 + 1e-6) for mark in marks)
    assert len({round((b - a) / width, 4) for a, b in pairwise(marks)}) <= 1


def test_a_scale_is_never_of_zero_width() -> None:
    scale = Scale.around([0.0, 0.0], 0, 100)
    assert scale(0.0) == pytest.approx(50)


@pytest.mark.parametrize(
    "text", ["<script>", 'a" onload="x', "\x00", "\x1b[31m", "a\nb", "\ufffe", "\udc80", "&amp;"]
)
def test_a_strangers_text_is_text_in_a_drawing_that_xml_readers_take(text: str) -> None:
    drawn = str(element("svg", element("text", text, class_=text)))
    (inside,) = ElementTree.fromstring(drawn)
    assert inside.tag == "text" and set(inside.attrib) == {"class"} and not len(inside)
