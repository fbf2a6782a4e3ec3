"""Text and pages made of the templates in quarterturn/app/templates."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **context: object) -> str:
    """Fill a template; in one that ends in .html, whatever is put in is escaped."""
    environment = Environment(
        loader=PackageLoader("quarterturn.app"),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|")  # of a table in Markdown
    return environment.get_template(template).render(**context)
