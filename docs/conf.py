"""How the pages are built: offline, with every name of ours resolved (``-n -W``)."""

import tomllib
from pathlib import Path

_TABLE = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))

project = "secureml"
author = "The secureml maintainers"
copyright = "The secureml maintainers"
release = _TABLE["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"secureml {release}"
html_copy_source = False
html_show_sphinx = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

# An example may leave something out, with an ellipsis that is no JSON.
suppress_warnings = ["misc.highlighting_failure"]

# Docstrings set code in single backquotes; it need not be a name that can be looked up.
default_role = "code"

autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Nothing is fetched while building, so names of the standard library and of other
# projects stay text.  Names of ours have to resolve; private ones are not documented.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!secureml\b).*"),
    (r"py:.*", r"secureml(\.\w+)*\._\w+(\.\w+)*"),
    (r"py:.*", r"secureml(\.\w+)*\.[A-Z]"),  # type variables
]
