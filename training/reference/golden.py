"""Writes the golden files `tests/golden/<model>.json` that the Rust tests read.

Each holds a small model (features, tasks, derived outputs, configuration, weights), one batch, and
what PyTorch computes from them in double precision: outputs, losses, and the gradient of the total
loss for every parameter.

    python training/reference/golden.py
"""

import json
import pathlib

import numpy
import torch

from models import Model, code_count

# Request row of each candidate row: the request level repeats over the candidates of a request.
REQUEST_OF = numpy.array([0] + [1] * 4 + [2] * 2 + [3] * 5)
ROWS = len(REQUEST_OF)
FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"


def coded(name, side, kind, width, size, **more):
    feature = {
        "name": name,
        "side": side,
        "kind": kind,
        "type": "int",
        "encoder": {"kind": "vocab", "min_count": 1, "oov_buckets": 1},
        "embedding": width,
        **more,
    }
    return {"feature": feature, "state": {"kind": "vocab", "size": size}}


def numeric(name, side):
    feature = {"name": name, "side": side, "kind": "numeric", "type": "float", "encoder": {"kind": "none"}}
    return {"feature": feature, "state": {"kind": "stateless"}}


# Sides are mixed on purpose: the model's input has the request level first. `recent_items` shares
# the table of `item_id`, across the two levels.
FEATURES = [
    coded("item_id", "item", "categorical", 4, 9, table="item"),
    numeric("age", "user"),
    coded("user_id", "user", "categorical", 4, 6),
    coded("recent_items", "user", "sequence", 4, 9, table="item", max_len=5),
    numeric("price", "item"),
    coded("hour", "context", "categorical", 3, 4),
]
TASKS = [
    {"name": "ctr", "label": "click"},
    {"name": "cvr", "label": "conversion", "given": "ctr", "weight": 0.5},
]
DERIVED = [{"name": "ctcvr", "product": ["ctr", "cvr"], "label": "conversion"}]
WIDTHS = {"bottom": [8, 6], "experts": 3, "expert": [8, 6], "gate": [5], "tower": [4]}


def make_batch(random):
    """Codes from the whole range, missing among them, and an empty and a full sequence."""
    batch = {}
    for fitted in FEATURES:
        feature = fitted["feature"]
        rows = ROWS if feature["side"] == "item" else REQUEST_OF.max() + 1
        if feature["kind"] == "numeric":
            values = random.normal(size=rows).astype(numpy.float32)
        elif feature["kind"] == "categorical":
            values = random.integers(1, code_count(fitted), size=rows).astype(numpy.int32)
        else:
            length = feature["max_len"]
            values = random.integers(1, code_count(fitted), size=(rows, length)).astype(numpy.int32)
            lengths = random.integers(1, length, size=rows)
            lengths[0], lengths[1] = 0, length
            values[numpy.arange(length)[None, :] >= lengths[:, None]] = 0
        batch[feature["name"]] = values if feature["side"] == "item" else values[REQUEST_OF]
    return batch


def make_labels(random):
    click = (random.random(ROWS) < 0.5).astype(numpy.float32)
    click[:4] = [1, 0, 1, 1]
    conversion = click * (random.random(ROWS) < 0.5)
    conversion[:4] = [1, 0, 0, 1]
    return {"ctr": click, "cvr": conversion.astype(numpy.float32)}


def rounded(tensor):
    """Nine significant digits: more than a 32-bit float holds."""
    return [float(f"{value:.9g}") for value in numpy.asarray(tensor, dtype=numpy.float64).ravel()]


def write(kind, seed):
    random = numpy.random.default_rng(seed)
    configuration = {"kind": kind, **WIDTHS}
    model = Model(FEATURES, TASKS, DERIVED, configuration).double()
    with torch.no_grad():
        for name, parameter in model.by_name().items():
            values = random.normal(scale=0.5, size=tuple(parameter.shape)).astype(numpy.float32)
            if name.startswith("embedding."):
                values[0] = 0
            parameter.copy_(torch.from_numpy(values))
    batch, labels = make_batch(random), make_labels(random)
    tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
    tensors = {name: value.double() if value.is_floating_point() else value for name, value in tensors.items()}
    targets = {name: torch.from_numpy(values).double() for name, values in labels.items()}

    outputs = model(tensors)
    losses = model.losses(tensors, targets)
    losses["loss"].backward()

    def parameter_entry(parameter):
        return {
            "shape": list(parameter.shape),
            "values": rounded(parameter.detach()),
            "gradient": rounded(parameter.grad),
        }

    golden = {
        "features": FEATURES,
        "tasks": TASKS,
        "derived": DERIVED,
        "model": configuration,
        "request_of": REQUEST_OF.tolist(),
        "inputs": {name: values.ravel().tolist() for name, values in batch.items()},
        "labels": {name: values.tolist() for name, values in labels.items()},
        "outputs": {name: rounded(values.detach()) for name, values in outputs.items()},
        "losses": {name: rounded(value.detach())[0] for name, value in losses.items()},
        "parameters": {name: parameter_entry(value) for name, value in model.by_name().items()},
    }
    golden["inputs"] = {
        name: rounded(values) if batch[name].dtype == numpy.float32 else values
        for name, values in golden["inputs"].items()
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{kind}.json"
    # One line a top-level entry: small differences stay readable.
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{path}: loss {golden['losses']['loss']:.6f}")


def main():
    for seed, kind in enumerate(["shared-bottom", "esmm", "mmoe"], start=1):
        write(kind, seed)


if __name__ == "__main__":
    main()
