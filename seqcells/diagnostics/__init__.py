"""Where a gradient goes in time: pure functions, safe under jit and vmap."""

from seqcells._mean_field import MeanField as MeanField
from seqcells._mean_field import critical_weight_std as critical_weight_std
from seqcells._mean_field import mean_field as mean_field
from seqcells.diagnostics._jacobian import step_jacobians as step_jacobians
from seqcells.diagnostics._lag import RateAndHorizon as RateAndHorizon
from seqcells.diagnostics._lag import carry_gradient as carry_gradient
from seqcells.diagnostics._lag import gradient_by_lag as gradient_by_lag
from seqcells.diagnostics._lag import rate_and_horizon as rate_and_horizon
from seqcells.diagnostics._lyapunov import lyapunov_exponents as lyapunov_exponents
