"""The `Deferred` engine: weight gradients of many steps as one matrix product.

`engine` holds the options, `schedule` chooses what they leave open, and `plan` is the outcome.
`forward` and `tangents` are the mathematics, of which `loops`, `windows` and `slopes` are parts.
`primitive` makes a function one operation of JAX.
"""

from seqcells.engines.deferred.engine import Deferred as Deferred
