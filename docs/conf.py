import re

import seqcells

project = "seqcells"
author = "the seqcells authors"
copyright = "the seqcells authors"
release = seqcells.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_nb"]
html_theme = "furo"
html_title = "seqcells"
html_static_path = ["_static"]
html_css_files = ["pictures.css"]  # in the dark
nb_execution_mode = "off"
myst_heading_anchors = 3  # a link to page.md#heading works
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_use_rtype = False
exclude_patterns = ["_build"]
default_role = "code"  # `x` in a docstring is code


def _literal_shapes(app, what, name, obj, options, lines):
    """Let a shape such as [T, *B, D] be read as it stands: a star is no emphasis here."""
    lines[:] = [re.sub(r"\*(?=[ABKS]\b|shape)", r"\\*", line) for line in lines]


def _is_field(app, what, name, obj, skip, options):
    """Leave out a field whose default is a function: the class says what it is."""
    return True if name.endswith("_init") else None


def setup(app):
    app.connect("autodoc-process-docstring", _literal_shapes)
    app.connect("autodoc-skip-member", _is_field)
