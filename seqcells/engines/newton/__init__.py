"""The `Newton` engine: the carries of all steps as the solution of one system of equations.

`engine` holds the settings and solves chunk after chunk. `layout` writes carries as blocks of
numbers, `recurrence` takes the steps of a cell on them, and `jacobians` differentiates them.
`affine` runs affine recurrences in parallel, `iteration` is Newton's method, `certificate` says how
good its result is, with the help of `linear`, and `implicit` is the derivative.
"""

from seqcells.engines.newton.certificate import NewtonReport as NewtonReport
from seqcells.engines.newton.engine import Newton as Newton
