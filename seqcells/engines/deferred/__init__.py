"""The `Deferred` engine: weight gradients of many steps as one matrix product.

`engine` holds the options and `schedule` chooses what they leave open. `derivative` is the
mathematics, of which `loops`, `windows` and `slopes` are parts. `primitive` makes a function one
operation of JAX.
"""

from seqcells.engines.deferred.engine import Deferred as Deferred
