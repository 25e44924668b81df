"""Post-training quantisation, all of its steps: equalise, calibrate, quantise, correct the biases."""

from collections.abc import Callable

from .bias import bias_corrected
from .calibrate import statistics
from .calibrators import minmax, mse
from .equalize import equalization, equalized
from .integers import integers
from .quant import Model, QuantModel, quantize
from .statistics import Statistics


def calibrated(
    model: Model,
    pictures,
    calibrator: Callable[[Statistics], tuple[float, float]] = mse,
    equalize: bool = True,
    correct_bias: bool = True,
) -> QuantModel:
    """The int8 model, calibrated on pictures (h, w, 3) uint8 RGB of its size. `calibrator`, one of calibrators.py,
    sets every range but those of the outputs: the largest score is the answer, clipped two would be equal. Raises
    GraphError for a model whose sums could overflow, UserError where there is no picture."""
    pictures = list(pictures)
    found = statistics(model, pictures)
    if equalize:
        model = equalized(model, equalization(model, found))
        found = statistics(model, pictures)
    ends = {name: (minmax if name in model.graph.outputs else calibrator)(s) for name, s in found.items()}
    quantized = quantize(model, ends)
    if correct_bias:
        quantized = bias_corrected(quantized, model, found)
    integers(quantized)
    return quantized
