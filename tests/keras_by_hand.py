"""The MobileNets as Keras stores them, written out by hand from the names in Keras's own files and
code."""

from __future__ import annotations


def keras_arrays(model):
    """Our MobileNetV1 as Keras stores it: names, orders of dimensions, no counters."""
    leaves = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean",
              "running_var": "moving_variance"}  # fmt: skip
    arrays = {}
    flat = [f"{i}.{j}" for i, depth in enumerate((1, 2, 2, 6, 2)) for j in range(depth)]
    for key, tensor in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        module, leaf = key.rsplit(".", 1)
        array = tensor.numpy()
        if module == "head.classifier":
            layer, name = "conv_preds", {"weight": "kernel", "bias": "bias"}[leaf]
            array = array.T[None, None] if leaf == "weight" else array  # a 1×1 convolution
        else:
            if module.startswith("stem"):
                layer = "conv1"
            else:
                _, stage, block, kind, _ = module.split(".")
                number = flat.index(f"{stage}.{block}") + 1
                layer = f"conv_{'dw' if kind == 'depthwise' else 'pw'}_{number}"
            if module.endswith(".1"):
                layer, name = f"{layer}_bn", leaves[leaf]
            elif "depthwise" in module:
                name, array = "depthwise_kernel", array.transpose(2, 3, 0, 1)  # H W C 1
            else:
                name, array = "kernel", array.transpose(2, 3, 1, 0)  # H W I O
        arrays[f"{layer}/{layer}/{name}:0"] = array
    return arrays


def keras_v2_arrays(model):
    """Our MobileNetV2 under the names that ``keras.applications`` gives its layers."""
    rows = [("stem", "Conv1", "bn_Conv1")]
    flat = [f"stages.{i}.{j}" for i, depth in enumerate((1, 2, 3, 7, 4)) for j in range(depth)]
    for n, block in enumerate(flat):
        parts = ("expand", "depthwise", "project") if n else ("depthwise", "project")
        first = f"block_{n}" if n else "expanded_conv"
        rows += [(f"{block}.{p}", f"{first}_{p}", f"{first}_{p}_BN") for p in parts]
    rows += [("head.body.conv", "Conv_1", "Conv_1_bn"), ("head.classifier", "predictions")]
    return _arrays(model, rows, dense=True)


def keras_v3_arrays(model, *, old):
    """Our MobileNetV3 under the names that ``keras.applications`` gives its layers: ``old`` ones
    have slashes and capitals."""
    sizes = (1, 2, 3, 6, 3) if model.config.size == "large" else (0, 1, 2, 5, 3)
    flat = [f"stages.{i}.{j}" for i, depth in enumerate(sizes) for j in range(depth)]
    between, norm = ("/", "/BatchNorm") if old else ("_", "_bn")
    first, last, wide, logits = (
        name if old else name.lower() for name in ("Conv", "Conv_1", "Conv_2", "Logits")
    )
    rows = [("stem", first, first + norm)]
    state = model.state_dict()
    for n, block in enumerate(flat):
        name = f"expanded_conv_{n}{between}" if n else f"expanded_conv{between}"
        parts = ("expand", "depthwise") if n else ("depthwise",)
        rows += [(f"{block}.{p}", f"{name}{p}", f"{name}{p}{norm}") for p in parts]
        if f"{block}.squeeze_excite.reduce.weight" in state:
            squeeze = f"{name}squeeze_excite{between}" + ("Conv" if old else "conv")
            rows += [(f"{block}.squeeze_excite.reduce", squeeze)]
            rows += [(f"{block}.squeeze_excite.expand", f"{squeeze}_1")]
        rows += [(f"{block}.project", f"{name}project", f"{name}project{norm}")]
    rows += [("stages.4.3", last, last + norm), ("head.body.conv", wide)]
    return _arrays(model, [*rows, ("head.classifier", logits)], dense=False)


LEAVES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def _arrays(model, rows, *, dense):
    """Arrays by Keras's names, in the order of its layers. A row is our convolution with norm and
    Keras's two names, or our module with a bias and Keras's name. ``dense``: whether the classifier
    is a dense layer, and not a 1×1 convolution."""
    state = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    arrays = {}

    def put(name, leaf, array):
        arrays[f"{name}/{name}/{leaf}:0"] = array

    def kernel(array):
        array = array[..., None, None] if array.ndim == 2 else array
        return array.transpose(2, 3, 1, 0)  # H W I O

    for ours, name, *norms in rows:
        weight = state[f"{ours}.0.weight" if norms else f"{ours}.weight"]
        if ours.endswith("depthwise"):
            put(name, "depthwise_kernel", weight.transpose(2, 3, 0, 1))  # H W C 1
        elif dense and ours == "head.classifier":
            put(name, "kernel", weight.T)
        else:
            put(name, "kernel", kernel(weight))
        for norm in norms:
            for leaf, theirs in LEAVES.items():
                put(norm, theirs, state[f"{ours}.1.{leaf}"])
        if not norms:
            put(name, "bias", state[f"{ours}.bias"])
    return arrays


def keras_3_arrays(arrays):
    """The same arrays as Keras 3 saves them: layers numbered by class in their order."""
    kinds, found = {}, {}
    for key, array in arrays.items():
        leaf = key.rpartition("/")[2].removesuffix(":0")
        layer = key.removesuffix(f"/{leaf}:0")
        if leaf in LEAVES.values():
            kind, place = "batch_normalization", list(LEAVES.values()).index(leaf)
        elif leaf == "depthwise_kernel":
            kind, place = "depthwise_conv2d", 0
        else:
            flat = arrays[f"{layer}/kernel:0"].ndim == 2
            kind, place = ("dense" if flat else "conv2d"), int(leaf == "bias")
        layers = kinds.setdefault(kind, [])
        if layer not in layers:
            layers.append(layer)
        number = layers.index(layer)
        found[f"layers/{kind}{f'_{number}' if number else ''}/vars/{place}"] = array
    return found
