"""Layers in a row: forward from the first to the last, backward from the last.

Introduced in: mathematics/backpropagation
"""

import numpy as np

from helpers.nn.layers import Layer


class Sequential(Layer):
    """Layers in a row; itself a layer, so that rows may stand inside rows.

    layers: list of one or more `Layer`, each used once
    Raises: ValueError if there is none, one stands twice, or one is no layer
    Introduced in: mathematics/backpropagation
    """

    def __init__(self, layers):
        super().__init__()
        self.layers = list(layers)
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise ValueError(
                    f"a network is made of layers, got {layer!r}: write for example "
                    "Dense(10), with its brackets"
                )
        inner = [id(layer) for _, layer in walk(self)]
        if not self.layers or len(set(inner)) < len(inner):
            raise ValueError(
                f"a network needs one layer or more, each standing once, got {layers}"
            )

    def __repr__(self):
        return f"{type(self).__name__}({self.layers})"

    def sublayers(self):
        return self.layers

    def build(self, shape, rng, dtype):
        for place, layer in enumerate(self.layers, start=1):
            try:
                shape = layer.build(shape, rng, dtype)
            except ValueError as error:
                raise ValueError(f"layer {place}, {layer!r}: {error}") from error
        return shape

    def forward(self, x, training=False):
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, da, input_gradient=True):
        for layer in reversed(self.layers[1:]):
            da = layer.backward(da)
        return self.layers[0].backward(da, input_gradient)

    def penalty(self):
        return sum(layer.penalty() for layer in self.layers)


def walk(layer, name=""):
    """Name every layer inside this one, and itself, in a fixed order.

    layer: `Layer`
    Returns: iterator over (name, layer); names as "0", "2.1", "" for itself
    Introduced in: mathematics/backpropagation
    """
    yield name, layer
    for place, inner in enumerate(layer.sublayers()):
        yield from walk(inner, f"{name}.{place}" if name else str(place))


def named(layer, kind):
    """Collect one kind of array from a layer and all inside it.

    layer: `Layer`
    kind: "params", "grads" or "state"
    Returns: dict of names such as "0.W" to arrays, the layer's own, not copies
    Introduced in: mathematics/backpropagation
    """
    return {
        f"{name}.{key}" if name else key: value
        for name, inner in walk(layer)
        for key, value in getattr(inner, kind).items()
    }


def flatten(layer):
    """Move all parameters of a layer into one array, all gradients into another.

    The layers go on with views of these, so that an optimizer passes over one array.

    layer: `Layer`, built
    Returns: two (n_params,) arrays, the parameters and their gradients
    Introduced in: mathematics/backpropagation
    """
    flats = []
    for kind in ("params", "grads"):
        held = [getattr(inner, kind) for _, inner in walk(layer)]
        parts = [array for arrays in held for array in arrays.values()]
        flat = np.concatenate([array.ravel() for array in parts] or [np.empty(0)])
        start = 0
        for arrays in held:
            for key, array in arrays.items():
                view = flat[start : start + array.size]
                arrays[key] = view.reshape(array.shape)
                start += array.size
        flats.append(flat)
    return flats
