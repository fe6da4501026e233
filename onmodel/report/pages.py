"""How pages are made of templates: nothing unescaped, nothing undefined."""

import jinja2


def environment() -> jinja2.Environment:
    """For the templates of this package; `get_template(name).render(…)`."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("onmodel.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
