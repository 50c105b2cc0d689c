"""Which memory reaches how far, and why: success and gradient by lag.

Four cells learn to report a symbol that they saw 10, 25, 50 or 100 steps before; the lag is data,
so one compiled program trains all lags and seeds of a cell. Beside it stand the gradient of the
loss by the memory at every lag, before and after training, and the adding problem.
"""

from experiments.horizon.report import report as report
from experiments.horizon.settings import QUICK as QUICK
from experiments.horizon.settings import Settings as Settings
from experiments.horizon.study import run as run
