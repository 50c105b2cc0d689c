"""The `Deferred` engine: weight gradients of many steps as one matrix product.

`engine` holds the options, `schedule` chooses those that are None, and `plan` is the result.
`forward` and `tangents` compute values and derivatives, with the help of `loops`, `windows` and
`slopes`. `primitive` turns a function into one JAX operation.
"""

from seqcells.engines.deferred.engine import Deferred as Deferred
