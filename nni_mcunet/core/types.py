"""Name the types that several rooms share. It holds no code and no class."""

import os
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FilePath: TypeAlias = str | os.PathLike[str]
Plain: TypeAlias = Any  # a value out of JSON or YAML, before the code that reads it has looked at it
PlainDict: TypeAlias = dict[str, Any]  # the same, known to be an object

Int8Map: TypeAlias = NDArray[np.int8]  # a feature map, or a weight, of the int8 network
Int32s: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Count: TypeAlias = Any  # an integer, or an array of integers: one a patch, or one a schedule
Ints: TypeAlias = NDArray[np.int64]
Picture: TypeAlias = NDArray[np.uint8]  # (h, w, 3) RGB, or (h, w, 1)
FloatWeights: TypeAlias = tuple[Floats, Floats]  # of a convolution: weight (cout, cin/groups, kh, kw), bias (cout,)
Range: TypeAlias = tuple[float, float]  # (low, high) of a tensor's real values
Groups: TypeAlias = tuple[tuple[int, ...], ...]  # channels of a map, those of each group (core/ir/box_channels.py)
