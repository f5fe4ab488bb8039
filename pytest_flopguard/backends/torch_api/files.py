"""Files of torch whose frames are recognised on the stack, by their path below torch's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

FOLDER: Final = Path(torch.__file__).parent.as_posix() + "/"

# Print a tensor.
TENSOR_TEXT: Final = ("_tensor.py", "_tensor_str.py")
# Call a dispatch mode.
DISPATCH: Final = ("_ops.py", "utils/_python_dispatch.py", "utils/_stats.py")
# Read the values of a tensor in torch's own code.
RANDOM_WEIGHTS: Final = "nn/init.py"
GRAD_SCALER: Final = "amp/grad_scaler.py"
ADAFACTOR: Final = "optim/_adafactor.py"
DISTRIBUTIONS: Final = "distributions/"
