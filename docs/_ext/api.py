"""How docstrings, fields and types are shown on the pages of the API."""

import inspect
import re

import sphinx.util.inspect

# What a user calls of every cell and layer; the methods that engines call are on the page of the
# base classes.
SHOWN = {"init", "init_carry", "step", "gates", "output_size"}
SHORT = {"api/layers", *(f"api/cells{of}" for of in ("", "-gates", "-differential", "-linear"))}
# ^ pages that show no others
ALIASES = ["Params", "Carry", "Drive", "Mixed", "Inputs", "Outputs", "PyTree", "InputSize"]
ALIASES += ["ArrayLike", "DTypeLike", "Shape", "Metrics", "Initializer", "GateInitializers"]


def drop_module(app, what, name, obj, options, lines):
    """Leave out what a module's docstring says to those who work on it, where a page says more."""
    if what == "module" and app.env.docname in {*SHORT, "api/engines"}:
        lines.clear()


def show_signature(app, what, name, obj, options, signature, returned):
    """Show how a class is called, and aliases of types by their names.

    The metaclass, which explains wrong calls, takes any argument.
    """
    if what == "class" and (signature or "").startswith("(*args"):
        own = sphinx.util.inspect.signature(
            obj.__init__, bound_method=True, type_aliases=app.config.autodoc_type_aliases
        )
        signature = sphinx.util.inspect.stringify_signature(own, unqualified_typehints=True)
        signature = signature.removesuffix(" -> None")
    return tuple(text and _plain(text) for text in (signature, returned))


def _plain(text):
    """Show aliases, functions and types in a signature by their names."""
    text = re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text)
    return re.sub(r"<(?:class '(?:\w+\.)*|function )(\w+)'?>", r"\1", text)


def shorten(app, what, name, obj, options, lines):
    """Show of a method that each class has alike what it does; its arguments are said once."""
    method = name.rpartition(".")[2]
    if what == "method" and app.env.docname in SHORT and method in {"init_carry", "step"}:
        first = next((i for i, line in enumerate(lines) if not line), len(lines))
        lines[first:] = ["", f"See :meth:`Cell.{method} <seqcells.Cell.{method}>`.", ""]


def show_stars(app, what, name, obj, options, lines):
    """Let a shape such as [T, *B, D] be read as it stands: a star is no emphasis here."""
    lines[:] = [re.sub(r"\*(?=[ABKMSU]\b|(?:leaf\.)?shape)", r"\\*", line) for line in lines]


def list_fields(app, what, name, obj, options, lines):
    """Show the arrays of a NamedTuple with their shapes, which comments of the source give."""
    if what == "class" and _is_named_tuple(obj):
        lines += ["", *(f":var {field}: {text}" for field, text in _fields(obj).items()), ""]


def skip(app, what, name, obj, skipped, options):
    """Leave out fields, which have a place of their own, and methods that engines call."""
    field = type(obj).__name__ == "_tuplegetter" or name.endswith("_init")
    inner = what == "class" and app.env.docname in SHORT and name not in SHOWN
    return True if field or inner else None


def _is_named_tuple(obj):
    return inspect.isclass(obj) and issubclass(obj, tuple) and hasattr(obj, "_fields")


def _fields(obj):
    """Return what the source says of each field: `name: type  # comment`."""
    try:
        source = inspect.getsource(obj)
    except (OSError, TypeError):
        return {}
    lines = re.findall(r"^    (\w+): ([^#\n]*?)(?: +# (.*))?$", source, re.M)
    told = {
        name: f"{text.replace('|', chr(92) + '|')} (`{kind}`)".strip() for name, kind, text in lines
    }
    return {name: told[name] for name in obj._fields if name in told}


def setup(app):
    app.config.autodoc_type_aliases |= {name: name for name in ALIASES}
    app.connect("autodoc-process-signature", show_signature)
    app.connect("autodoc-process-docstring", shorten)
    app.connect("autodoc-process-docstring", drop_module)
    app.connect("autodoc-process-docstring", list_fields)
    app.connect("autodoc-process-docstring", show_stars)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True}
