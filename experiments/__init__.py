"""Experiments that test common claims about recurrent networks: `python -m experiments`."""

import importlib.util
import sys

# The modules of the extra `exp`.
_NEEDED = ("jinja2", "matplotlib", "optuna", "orbax", "pandas", "rich", "scipy", "tyro")
if _missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
    _text = f'{_missing[0]}: expected this module, got none of this name; pip install -e ".[exp]"'
    if sys.argv[:1] == ["-m"]:  # python -m experiments, or a module that imports it
        sys.exit(_text)
    raise ModuleNotFoundError(_text, name=_missing[0])
