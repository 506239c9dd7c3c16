"""Networks of Keras and JAX, and how tf2onnx and jax2onnx export them."""
# ruff: noqa: PLC0415  # each environment has only some of these

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, numpy_helper


def keras_resnet() -> Any:
    """A residual network of Keras, channels last."""
    from keras import Input, Model, layers

    def unit(x: Any, filters: int, stride: int = 1) -> Any:
        y = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization()(y))

    given = Input((32, 32, 3))
    x = unit(given, 16, 2)
    x = layers.Add()([x, unit(unit(x, 16), 16)])
    x = layers.Concatenate()([layers.MaxPooling2D()(x), unit(x, 8, 2)])
    x = layers.ReLU(max_value=6.0)(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.Dense(32, activation="silu")(layers.GlobalAveragePooling2D()(x))
    return Model(given, layers.Dense(10)(x))


def keras_mobilenet() -> Any:
    """MobileNet of keras.applications."""
    from keras.applications import MobileNet

    return MobileNet((32, 32, 3), alpha=0.25, weights=None, classes=10)


def tf_lstm() -> Any:
    """Embedding, LSTM and GRU of Keras."""
    from keras import Input, Model, layers

    tokens = Input((12,), dtype="int32")
    x = layers.LSTM(16, return_sequences=True)(layers.Embedding(50, 12)(tokens))
    x = layers.Dense(24, activation="relu")(layers.GRU(12)(x))
    return Model(tokens, layers.Dense(5)(x))


def tf_attention() -> Any:
    """One block of a transformer from Keras' layers."""
    from keras import Input, Model, layers

    given = Input((12, 16))
    normal = layers.LayerNormalization()(given)
    x = layers.Add()([given, layers.MultiHeadAttention(4, 4)(normal, normal)])
    y = layers.Dense(32, activation="silu")(layers.LayerNormalization()(x))
    x = layers.Add()([x, layers.Dense(16)(y)])
    return Model(given, layers.Dense(5)(layers.GlobalAveragePooling1D()(x)))


def from_tensorflow(build: Any, opset: int) -> ModelProto:
    """What tf2onnx makes of a Keras model with weights that are not constant."""
    import tensorflow as tf
    import tf2onnx

    model = build()
    rng = np.random.default_rng(0)
    model.set_weights([_drawn(rng, weight.shape) for weight in model.get_weights()])
    (given,) = model.inputs
    spec = [tf.TensorSpec((None, *given.shape[1:]), given.dtype, name="x")]
    made, _ = tf2onnx.convert.from_function(tf.function(lambda x: model(x, training=False)), spec, opset=opset)
    return made


def _drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Positive numbers around one for vectors, since they may be variances; He scaling else."""
    if len(shape) < 2:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))).astype(np.float32)


def jax_mlp() -> tuple[Any, Any]:
    """Linear layers with LayerNorm and GELU."""
    from flax import nnx

    keys = nnx.Rngs(0)
    one, normal, two = nnx.Linear(20, 32, rngs=keys), nnx.LayerNorm(32, rngs=keys), nnx.Linear(32, 5, rngs=keys)
    return (lambda x: two(nnx.gelu(normal(one(x))))), ("B", 20)


def jax_cnn() -> tuple[Any, Any]:
    """Convolutions of flax with batch normalization, a residual and pooling."""
    from flax import nnx
    from jax import numpy as jnp

    keys = nnx.Rngs(0)
    one, two = nnx.Conv(3, 16, (3, 3), rngs=keys), nnx.Conv(16, 16, (3, 3), rngs=keys)
    normal = nnx.BatchNorm(16, use_running_average=True, rngs=keys)
    last = nnx.Linear(16, 10, rngs=keys)

    def call(x: Any) -> Any:
        x = nnx.relu(normal(one(x)))
        x = nnx.avg_pool(inputs=nnx.relu(x + two(x)), window_shape=(2, 2), strides=(2, 2))
        return last(jnp.mean(x, (1, 2)))

    return call, ("B", 16, 16, 3)


def from_jax(build: Any, opset: int) -> ModelProto:
    """What jax2onnx makes of a function, its vectors of equal numbers scattered."""
    from jax2onnx import to_onnx

    call, shape = build()
    made = to_onnx(call, inputs=[shape], opset=opset)
    rng = np.random.default_rng(0)
    for tensor in made.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.ndim == 1 and value.size > 1 and np.ptp(value) == 0:
            value = value + rng.uniform(-0.5, 0.5, value.shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return made


TENSORFLOW = {"cnn": keras_resnet, "mobilenet": keras_mobilenet, "lstm": tf_lstm, "attention": tf_attention}
JAX = {"mlp": jax_mlp, "cnn": jax_cnn}
