"""Compiled gradients, for tests of what a program holds and how much memory it takes."""

import jax
import jax.numpy as jnp

import seqcells as sc


def lowered(cell, engine, *shape, members=None):
    """Lower d(sum of outputs)/d(params) for xs of this shape, of one net or of many."""

    def loss(params, xs):
        return jnp.sum(sc.unroll(cell, params, xs, engine=engine)[1])

    def init(key):
        return cell.init(key, shape[-1])

    graded, keys = jax.grad(loss), jax.random.split(jax.random.key(0), members or 1)
    if members:
        graded, init = jax.vmap(graded, (0, None)), jax.vmap(init)
    params = jax.eval_shape(init, keys if members else keys[0])
    return jax.jit(graded).lower(params, jax.ShapeDtypeStruct(shape, "float32"))


def gradient(*args, **options):
    """Compile what `lowered` lowers."""
    return lowered(*args, **options).compile()


def temp_bytes(*args, **options):
    """Bytes that the gradient needs beside its arguments."""
    return gradient(*args, **options).memory_analysis().temp_size_in_bytes
