"""Static values: what configures a program, and passes through it like any argument."""

from __future__ import annotations

from typing import Any

import jax


class Static:
    """A base of frozen dataclasses that hold no array.

    Subclasses are registered with JAX as static values, so they pass through `jit` and `vmap` with
    no `static_argnums`, and two equal ones are traced once.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_static(cls)
