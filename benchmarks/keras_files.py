"""Make int8 .tflite files of known networks: `PYTHON benchmarks/keras_files.py FOLDER [--onnx]`, run by litert.py.

PYTHON has TensorFlow, which is no dependency of the project. The weights are random; TensorFlow's converter quantises
on random inputs, as it does for MLPerf Tiny's published files. --onnx makes ONNX files by tf2onnx instead, run by
keras_onnx.py: of the float network, of the .tflite file, and of one with an open batch.
"""

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
from keras import Model, applications, layers
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2 as frozen


def normalised(x, layer, act="relu"):
    x = layers.BatchNormalization()(layer(x))
    return layers.Activation(act)(x) if act else x


def resnet8():
    x = image = layers.Input((32, 32, 3))
    x = normalised(x, layers.Conv2D(16, 3, padding="same"))
    for f, s in ((16, 1), (32, 2), (64, 2)):
        y = normalised(x, layers.Conv2D(f, 3, s, padding="same"))
        y = normalised(y, layers.Conv2D(f, 3, padding="same"), None)
        skip = x if s == 1 else layers.Conv2D(f, 1, s, padding="same")(x)
        x = layers.ReLU()(layers.add([skip, y]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    return Model(image, layers.Dense(10, activation="softmax")(x))


def autoencoder():
    x = features = layers.Input((640,))
    for n in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = normalised(x, layers.Dense(n))
    return Model(features, layers.Dense(640)(x))


def ds_cnn():
    x = mfcc = layers.Input((49, 10, 1))
    x = normalised(x, layers.Conv2D(64, (10, 4), 2, padding="same"))
    for _ in range(4):
        x = normalised(x, layers.DepthwiseConv2D(3, padding="same"))
        x = normalised(x, layers.Conv2D(64, 1))
    x = layers.Flatten()(layers.AveragePooling2D((25, 5))(x))
    return Model(mfcc, layers.Dense(12, activation="softmax")(x))


def micro_speech():
    x = features = layers.Input((1960,))
    x = layers.Reshape((49, 40, 1))(x)
    x = layers.DepthwiseConv2D((10, 8), 2, padding="same", depth_multiplier=8, activation="relu")(x)
    return Model(features, layers.Dense(4, activation="softmax")(layers.Flatten()(x)))


def mobilenet_v1_025():
    return applications.MobileNet((96, 96, 3), 0.25, weights=None, classes=2)


def mobilenet_v2_035():
    return applications.MobileNetV2((96, 96, 3), 0.35, weights=None, classes=10)


def mobilenet_v3_small_075():
    return applications.MobileNetV3Small((96, 96, 3), 0.75, weights=None, classes=10)


def detector():
    """Two maps of boxes; the second from an enlarged and a fine map, as tinyengine's person detector has three."""

    def separable(x, f, s):
        x = layers.DepthwiseConv2D(3, s, padding="same")(x)
        return layers.LeakyReLU(negative_slope=0.1)(normalised(x, layers.Conv2D(f, 1), "relu6"))

    x = image = layers.Input((128, 160, 3))
    x = normalised(x, layers.Conv2D(8, 3, 2, padding="same"), "relu6")
    fine = separable(separable(x, 16, 2), 24, 2)
    coarse = separable(fine, 32, 2)
    large = layers.Resizing(16, 20, "nearest")(layers.Conv2D(16, 1)(coarse))
    x = separable(layers.Concatenate()([large, fine]), 24, 1)
    return Model(image, [layers.Conv2D(18, 1)(coarse), layers.Conv2D(18, 1)(x)])


def conv1d():
    x = samples = layers.Input((128, 9))
    x = layers.MaxPooling1D(2)(layers.Conv1D(16, 5, padding="same", activation="relu")(x))
    x = layers.SeparableConv1D(24, 3, padding="same")(layers.Conv1D(16, 3, 2, activation="relu")(x))
    return Model(samples, layers.Dense(6, activation="softmax")(layers.GlobalAveragePooling1D()(x)))


def ecg():
    x = beat = layers.Input((187, 1))
    for f, k, s in ((16, 7, 2), (32, 5, 1), (32, 5, 2)):
        x = normalised(x, layers.Conv1D(f, k, s, padding="same"))
        x = layers.MaxPooling1D(2, padding="same")(x)
    x = layers.Dense(32, activation="relu")(layers.Flatten()(x))
    return Model(beat, layers.Dense(5, activation="softmax")(x))


def accelerometer():
    x = samples = layers.Input((128, 3))
    x = layers.ReLU()(layers.Conv1D(8, 3, padding="causal", dilation_rate=2)(x))
    x = layers.DepthwiseConv1D(5, padding="same", activation="relu6")(layers.MaxPooling1D(2)(x))
    x = layers.add([x, layers.Conv1D(8, 1)(x)])
    return Model(samples, layers.Dense(4)(layers.GlobalMaxPooling1D()(x)))


def edge_impulse():
    features = layers.Input((637,))
    x = layers.Reshape((49, 13))(features)
    for f in (8, 16):
        x = layers.MaxPooling1D(2, 2, padding="same")(layers.Conv1D(f, 3, padding="same", activation="relu")(x))
    return Model(features, layers.Dense(3, activation="softmax")(layers.Flatten()(x)))


def segmenter():
    fine = image = layers.Input((32, 32, 1))
    fine = layers.Conv2D(8, 3, padding="same", activation="relu")(fine)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(layers.MaxPooling2D()(fine))
    x = layers.Concatenate()([layers.Conv2DTranspose(8, 2, 2, padding="same")(x), fine])
    return Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


NETS = (resnet8, autoencoder, ds_cnn, micro_speech, mobilenet_v1_025, mobilenet_v2_035, mobilenet_v3_small_075,
        detector, conv1d, ecg, accelerometer, edge_impulse, segmenter)  # fmt: skip
BYTES = (mobilenet_v3_small_075,)  # read 0 .. 255
OPSET = 15  # the first with HardSwish is 14


def with_random_weights(model, rng):
    for value in model.weights:
        kind = value.path.rsplit("/", 1)[1]
        if kind == "moving_variance":
            value.assign(rng.uniform(0.5, 2, value.shape))
        elif kind in ("bias", "beta", "moving_mean"):
            value.assign(rng.normal(0, 0.2, value.shape))
    return model


def function(model):
    shape = (1, *model.input_shape[1:])
    return tf.function(lambda x: model(x, training=False)), [tf.TensorSpec(shape, tf.float32, name="x")]


def as_int8(model, most, rng, open_batch=False) -> bytes:
    shape = (1, *model.input_shape[1:])
    computed, signature = function(model)
    converter = (
        tf.lite.TFLiteConverter.from_keras_model(model)
        if open_batch
        else tf.lite.TFLiteConverter.from_concrete_functions([frozen(computed.get_concrete_function(*signature))])
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([rng.uniform(0, most, shape).astype(np.float32)] for _ in range(8))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def by_tf2onnx(model, most, rng, folder: Path, name: str) -> None:
    import tf2onnx

    computed, signature = function(model)
    tf2onnx.convert.from_function(computed, signature, opset=OPSET, output_path=folder / f"{name}_float.onnx")
    for kind in ("fixed", "open"):
        path = folder / f"{name}_{kind}.tflite"
        path.write_bytes(as_int8(model, most, rng, kind == "open"))
        tf2onnx.convert.from_tflite(str(path), opset=OPSET, output_path=path.with_suffix(".onnx"))
        path.unlink()


def main() -> None:
    folder, onnx = Path(sys.argv[1]), "--onnx" in sys.argv
    for make in NETS:
        tf.keras.utils.set_random_seed(0)
        rng = np.random.default_rng(0)
        model, most = with_random_weights(make(), rng), 255 if make in BYTES else 1
        if onnx:
            by_tf2onnx(model, most, rng, folder, make.__name__)
        else:
            (folder / f"{make.__name__}.tflite").write_bytes(as_int8(model, most, rng))


if __name__ == "__main__":
    main()
