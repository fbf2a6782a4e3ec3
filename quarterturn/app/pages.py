"""Text and pages from the templates in quarterturn/app/templates."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **context: object) -> str:
    """Fill a template; values are escaped if its name ends in .html."""
    environment = Environment(
        loader=PackageLoader("quarterturn.app"),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|")  # cell of a Markdown table
    return environment.get_template(template).render(**context)
