"""The faults that are planted: what each is, which axis must find it and by how much, what else it
rightly moves."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from onmodel.evaluate.selftest.drawn import Faults


@dataclass(frozen=True)
class Planted:
    """A fault at full size. `moves`: axis → the least change of its value, with its sign.

    `related` axes may move too, because the fault is one in their eyes as well; all others are
    neighbours and must stay quiet. `graded` faults are weaker at a smaller dose, the others are in
    fewer pictures.
    """

    words: str
    faults: Faults
    moves: Mapping[str, float]
    related: frozenset[str] = frozenset()
    graded: bool = False

    def at(self, dose: float) -> Faults:
        """The fault in one picture at a dose of 0…1, when it is a graded one."""
        return replace(
            self.faults, yellow=dose * self.faults.yellow, noise=dose * self.faults.noise
        )


def _axes(*names: str) -> frozenset[str]:
    return frozenset(names)


LOOKS = _axes("reproduction", "design")  # what a veil or another style hides from every observer
TORN = LOOKS | _axes(  # what cannot be read any more in a broken picture: all that is asked
    "expression",
    "default_expression",
    "override",
    "style",
    "composition",
    "default_framing",
    "outfit_change",
    "outfit_leak",
    "outfit_keep",
    "body",
    "head_size",
    "responsiveness",
    "entanglement",
    "colour_area",
    "colour_cast",
    "grain",
)
PLANTED: dict[str, Planted] = {
    "yellow_veil": Planted(
        "30 % warm yellow over every picture",
        Faults(yellow=0.3),
        {"colour_cast": 8.0, "colour_area": 5.0},
        LOOKS | _axes("style"),
        graded=True,
    ),
    "grain": Planted(
        "grain of 16 levels on every picture",
        Faults(noise=16.0),
        {"grain": 8.0},
        LOOKS | _axes("style", "composition", "corruption"),
        graded=True,
    ),
    "frozen_mouth": Planted(
        "always a smile",
        Faults(expression="smile"),
        {"expression": -0.5, "default_expression": 0.4, "override": 0.1},
        _axes("responsiveness"),
    ),
    "one_style": Planted(
        "always drawn as a comic",
        Faults(style="comic"),
        {"style": 0.5},
        LOOKS | _axes("responsiveness", "override", "entanglement", "colour_area", "colour_cast"),
    ),
    "one_layout": Planted(
        "always one pose in one place",
        Faults(frozen_layout=True),
        {"composition": -0.15, "default_framing": 0.2},
        _axes("responsiveness", "override", "entanglement", "memorisation"),
    ),
    "same_coat": Planted(
        "always the jacket",
        Faults(outfit="jacket"),
        {"outfit_change": -0.4, "outfit_leak": 0.4},
    ),
    "any_coat": Planted(
        "any outfit where none is asked",
        Faults(changing_outfit=True),
        {"outfit_keep": -0.4},
        _axes("reproduction", "colour_area", "colour_cast", "entanglement"),
    ),
    "wrong_ears": Planted(
        "rabbit ears instead of cat ears",
        Faults(ears="rabbit ears"),
        {"design": 0.5},
        _axes("reproduction", "composition", "head_size"),
    ),
    "big_head": Planted(
        "a child's proportions",
        Faults(body="chibi"),
        {"body": -0.6, "head_size": 2.0},
        _axes("design", "composition"),
    ),
    "stranger": Planted(
        "other hair, eyes, ears and no hat",
        Faults(wrong_hair=True),
        {"reproduction": -0.5, "design": 0.5},
        _axes("colour_area", "colour_cast", "head_size", "memorisation"),
    ),
    "no_trigger": Planted("the character without her trigger", Faults(leak=True), {"drift": 0.3}),
    "deaf": Planted(
        "background, pose and view as it likes",
        Faults(deaf=True),
        {"responsiveness": -0.2},
        _axes(
            "colour_area", "colour_cast", "composition", "override", "entanglement", "memorisation"
        ),
    ),
    "tied_face": Planted(
        "every background and style brings a face of its own",
        Faults(tied=True),
        {"entanglement": 0.02},
        _axes("default_expression"),
    ),
    "broken": Planted(
        "strips that slipped and patches that ran",
        Faults(broken=True),
        {"corruption": 0.3},
        TORN,
    ),
    "copies": Planted(
        "training pictures drawn again, a little soft",
        Faults(copies=True),
        {"memorisation": 0.6},
        _axes(
            "responsiveness",
            "expression",
            "default_expression",
            "style",
            "outfit_change",
            "outfit_leak",
            "outfit_keep",
            "override",
            "entanglement",
            "composition",
            "default_framing",
            "colour_area",
            "colour_cast",
            "design",
            "reproduction",
            "body",
            "head_size",
            "grain",
        ),
    ),
}
