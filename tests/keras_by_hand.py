"""MobileNetV1 as Keras stores it, written out by hand from the names in Keras's own files."""

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
