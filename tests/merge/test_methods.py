"""How `weights` of a recipe become numbers."""

import pytest

from onmodel.errors import InputError
from onmodel.merge.methods import METHODS

NAMES = ["preview@20", "release_1@20", "release_2@30"]


def test_the_table() -> None:
    assert METHODS["uniform"].weights(NAMES, "uniform") == [1 / 3] * 3
    assert METHODS["weighted"].weights(NAMES, [1, 0, -0.5]) == [1.0, 0.0, -0.5]
    assert METHODS["weighted"].weights(NAMES, {"release_2@30": 2, "preview@20": 1, "release_1@20": 0}) == [
        1.0,
        0.0,
        2.0,
    ]
    assert all(method.paper.startswith("https://") for method in METHODS.values())


def test_weights_that_do_not_fit_the_models_are_named() -> None:
    with pytest.raises(InputError, match="release_2@30"):
        METHODS["weighted"].weights(NAMES, [1.0, 2.0])
    with pytest.raises(InputError, match="release_3"):
        METHODS["weighted"].weights(NAMES, {"release_2@30": 2, "preview@20": 1, "release_3": 0})
