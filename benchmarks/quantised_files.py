"""Make .tflite files that other tools than TensorFlow's converter quantise: `PYTHON benchmarks/quantised_files.py
FOLDER`, run by litert.py.

PYTHON has tensorflow, tf_keras, tensorflow-model-optimization and ai-edge-quantizer, none of which is a dependency of
the project. The weights are random but for a few steps of training with quantisation.
"""

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
import tf_keras
from ai_edge_quantizer import quantizer, recipe
from tensorflow_model_optimization.quantization.keras import quantize_model
from tf_keras import layers

RNG = np.random.default_rng(0)
PICTURES = RNG.uniform(0, 1, (64, 32, 24, 3)).astype(np.float32)
LABELS = RNG.integers(0, 4, 64)


def net() -> tf_keras.Model:
    """A small MobileNet: batch normalisations, a residual, a padding, an average."""
    x = image = layers.Input((32, 24, 3), batch_size=1)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, 2, padding="same")(x)))
    for f in (8, 16):
        y = layers.ReLU(6)(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x)))
        y = layers.BatchNormalization()(layers.Conv2D(f, 1)(y))
        x = layers.add([x, y]) if f == 8 else y
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Conv2D(16, 3, 2, padding="same")(x)))
    return tf_keras.Model(image, layers.Dense(4, activation="softmax")(x))


def trained(model: tf_keras.Model) -> tf_keras.Model:
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(PICTURES, LABELS, batch_size=1, epochs=1, verbose=0)
    return model


def tf_qat() -> bytes:
    """Trained with quantisation by tensorflow-model-optimization; the converter takes its ranges."""
    converter = tf.lite.TFLiteConverter.from_keras_model(trained(quantize_model(trained(net()))))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def ai_edge_quantizer() -> bytes:
    """A float .tflite that ai-edge-quantizer quantises statically, weights by channels; its input stays float."""
    floats = tf.lite.TFLiteConverter.from_keras_model(trained(net())).convert()
    found = quantizer.Quantizer(floats)
    found.load_quantization_recipe(recipe.static_wi8_ai8())
    (name,) = tf.lite.Interpreter(model_content=floats).get_signature_list()["serving_default"]["inputs"]
    ranges = found.calibrate({"serving_default": [{name: picture[None]} for picture in PICTURES[:16]]})
    return bytes(found.quantize(ranges).quantized_model)


def main() -> None:
    for make in (tf_qat, ai_edge_quantizer):
        tf.keras.utils.set_random_seed(0)
        (Path(sys.argv[1]) / f"{make.__name__}.tflite").write_bytes(make())


if __name__ == "__main__":
    main()
