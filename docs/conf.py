import sys
from pathlib import Path

import seqcells

sys.path.append(str(Path(__file__).parent / "_ext"))

project = "seqcells"
author = "the seqcells authors"
copyright = "the seqcells authors"
release = seqcells.__version__
exclude_patterns = ["_build"]
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "api",  # docs/_ext/api.py: how docstrings, fields and types are shown
    "gallery",  # docs/_ext/gallery.py: a page for each study that was run in full
    "inventories",  # docs/_ext/inventories.py: links to the docs of JAX, Flax and Optax
]

html_theme = "furo"
html_title = "seqcells"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_js_files = ["pages.js"]
html_theme_options = {
    "source_repository": "https://github.com/seqcells/seqcells/",
    "source_branch": "main",
    "source_directory": "docs/",
}

add_module_names = False  # GRU, not seqcells.cells.GRU: all are names of `sc`
default_role = "code"  # `x` in a docstring is code
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 76
napoleon_use_rtype = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3  # a link to page.md#heading works
nb_execution_mode = "cache"  # tutorials run when they change
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds a cell
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
copybutton_exclude = ".linenos, .gp, .go"
