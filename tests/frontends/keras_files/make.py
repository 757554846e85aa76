"""Writes the files beside it: small Keras networks as Keras and TensorFlow export them, with what Keras answers.

Run once, in an environment of its own (pip install tensorflow-cpu tf2onnx onnx): the suite needs neither.

    python tests/frontends/keras_files/make.py
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

HERE = Path(__file__).parent


def vision() -> Any:
    """BatchNormalization, depthwise, hard-swish, squeeze-excite, a residual sum, softmax."""
    x = inputs = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = before = layers.Activation("hard_silu")(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    weights = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Multiply()([x, layers.Conv2D(8, 1, activation="sigmoid")(weights)])
    x = layers.Add()([layers.Conv2D(8, 1)(x), before])
    x = layers.Concatenate()([layers.MaxPooling2D(2)(x), layers.AveragePooling2D(2)(x)])
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(layers.Flatten()(x)))


def segment() -> Any:
    """Transposed convolution, upsampling, LeakyReLU, dilation, padding."""
    x = inputs = keras.Input((12, 12, 3), name="picture")
    x = layers.LeakyReLU(negative_slope=0.1)(layers.Conv2D(6, 3, strides=2)(layers.ZeroPadding2D(1)(x)))
    y = layers.Conv2D(6, 3, dilation_rate=2, padding="same", activation="elu")(x)
    y = layers.Conv2DTranspose(4, 3, strides=2, padding="same")(y)
    x = layers.Concatenate()([y, layers.UpSampling2D(2, interpolation="bilinear")(x)])
    return keras.Model(inputs, layers.Conv2D(2, 1, activation="sigmoid")(x))


def attention() -> Any:
    """MultiHeadAttention, LayerNormalization, gelu, a mean over time."""
    x = inputs = keras.Input((6, 16), name="tokens")
    x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 8)(x, x)]))
    y = layers.Dense(16)(layers.Dense(32, activation="gelu")(x))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(layers.Add()([x, y]))))


def sequence() -> Any:
    """Conv1D, LSTM and GRU, unrolled as Keras does for converters that know no loops."""
    x = inputs = keras.Input((4, 5), name="frames")
    x = layers.Conv1D(6, 3, padding="causal", activation="relu")(x)
    x = layers.GRU(5, return_sequences=True, unroll=True)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.LSTM(4, unroll=True)(x)))


NETWORKS: dict[str, Callable[[], Any]] = {"vision": vision, "segment": segment, "attention": attention, "sequence": sequence}


def samples(model: Any, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *model.input_shape[1:])).astype(np.float32)


def trained(build: Callable[[], Any]) -> Any:
    """With statistics in its BatchNormalizations as training leaves them."""
    keras.utils.set_random_seed(7)
    model, rng = build(), np.random.default_rng(7)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def to_tflite(model: Any, kind: str) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        data = samples(model, 32, 3)
        converter.representative_dataset = lambda: ([sample[None]] for sample in data)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def main() -> None:
    for name, build in NETWORKS.items():
        model = trained(build)
        x = samples(model, 1, 5)
        np.savez_compressed(HERE / f"{name}.npz", x=x, y=model(x, training=False).numpy())
        model.export(str(HERE / f"{name}.onnx"), format="onnx", verbose=False)
        kinds = ("float32", "float16", "dynamic", "int8") if name == "vision" else ("float32", "int8")
        for kind in kinds:
            (HERE / f"{name}.{kind}.tflite").write_bytes(to_tflite(model, kind))


if __name__ == "__main__":
    main()
