"""The type of one column of whole numbers, as a run's files are read back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.int64]
