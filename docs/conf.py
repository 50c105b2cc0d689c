import seqcells

project = "seqcells"
author = "the seqcells authors"
copyright = "the seqcells authors"
release = seqcells.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_nb"]
html_theme = "furo"
html_title = "seqcells"
nb_execution_mode = "off"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_use_rtype = False
exclude_patterns = ["_build"]
