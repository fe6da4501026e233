"""How pages are made of templates: nothing unescaped, nothing undefined, nothing hidden."""

import jinja2
from markupsafe import Markup

from onmodel.text import printable


def environment(*packages: str) -> jinja2.Environment:
    """For the templates of `packages` and of this one; `get_template(name).render(…)`."""
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(package) for package in (*packages, "onmodel.report")]
        ),
        autoescape=True,
        finalize=_visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _visible(value: object) -> object:
    """A text with control and format characters as escapes; its lines stay lines."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(map(printable, value.expandtabs().split("\n")))
