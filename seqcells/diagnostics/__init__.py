"""Where a gradient goes in time: pure functions, safe under jit and vmap."""

from seqcells.diagnostics import plot as plot
from seqcells.diagnostics._float64 import in_float64 as in_float64
from seqcells.diagnostics._gates import GateShares as GateShares
from seqcells.diagnostics._gates import Timescales as Timescales
from seqcells.diagnostics._gates import gate_shares as gate_shares
from seqcells.diagnostics._gates import gate_values as gate_values
from seqcells.diagnostics._gates import saturation as saturation
from seqcells.diagnostics._gates import timescales as timescales
from seqcells.diagnostics._jacobian import step_jacobians as step_jacobians
from seqcells.diagnostics._lag import RateAndHorizon as RateAndHorizon
from seqcells.diagnostics._lag import carry_gradient as carry_gradient
from seqcells.diagnostics._lag import gradient_by_lag as gradient_by_lag
from seqcells.diagnostics._lag import rate_and_horizon as rate_and_horizon
from seqcells.diagnostics._layers import Recurrence as Recurrence
from seqcells.diagnostics._layers import layer_gradients_by_lag as layer_gradients_by_lag
from seqcells.diagnostics._layers import recurrences as recurrences
from seqcells.diagnostics._memory import CurseOfMemory as CurseOfMemory
from seqcells.diagnostics._memory import curse_of_memory as curse_of_memory
from seqcells.diagnostics._singular import JacobianByLag as JacobianByLag
from seqcells.diagnostics._singular import jacobian_by_lag as jacobian_by_lag
from seqcells.diagnostics._singular import pascanu_bound as pascanu_bound
from seqcells.diagnostics._snr import GradientSNR as GradientSNR
from seqcells.diagnostics._snr import gradient_snr as gradient_snr
