"""Newton's method for all steps at once."""

from seqcells.engines.newton.certificate import NewtonReport as NewtonReport
from seqcells.engines.newton.engine import Newton as Newton
