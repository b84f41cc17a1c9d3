"""How the documentation is built: ``sphinx-build -W -b html docs docs/_build``, warnings as errors."""

from __future__ import annotations

from paddle_warm_callbacks import __version__

project = "paddle_warm_callbacks"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "paddle_warm_callbacks"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
# "Attributes:" of a docstring and the fields of a dataclass are the same things.
napoleon_use_ivar = True
myst_heading_anchors = 3
