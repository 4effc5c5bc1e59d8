"""Writes the golden files `tests/golden/<case>.json` that the Rust tests read.

Each holds a small model (features, tasks, derived outputs, configuration, weights), one batch, and
what PyTorch computes from them in double precision: outputs, losses, and the gradient of the total
loss for every parameter.

    python training/reference/golden.py
"""

import json
import pathlib
import zlib

import numpy
import torch

from models import Model
from net import code_count

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
# A sequence of every kind of pooling, on the user's side and on the candidate's.
POOLED = FEATURES + [
    coded("sum", "user", "sequence", 4, 9, table="item", max_len=4, pooling="sum"),
    coded("max", "item", "sequence", 3, 5, max_len=4, pooling="max"),
    coded("attention", "user", "sequence", 4, 9, table="item", max_len=6, pooling="attention", query="item_id"),
    coded("gru", "user", "sequence", 3, 7, max_len=5, pooling="gru"),
]
TASKS = [
    {"name": "ctr", "label": "click"},
    {"name": "cvr", "label": "conversion", "given": "ctr", "weight": 0.5},
]
DERIVED = [{"name": "ctcvr", "product": ["ctr", "cvr"], "label": "conversion"}]
WIDTHS = {
    "bottom": [8, 6],
    "experts": 3,
    "task_experts": 2,
    "levels": 2,
    "expert": [8, 6],
    "gate": [5],
    "tower": [4],
    "sharing": 0.05,
    "calibrator": 0.6,
}
KINDS = [
    "single-task",
    "shared-bottom",
    "l2-sharing",
    "trace-norm",
    "cross-stitch",
    "omoe",
    "mmoe",
    "cgc",
    "ple",
    "esmm",
    "aitm",
]
# A task that predicts a number, on the rows where the first task's label is 1.
NUMBER = [TASKS[0], {"name": "amount", "label": "amount", "given": "ctr", "loss": "squared-error", "weight": 0.3}]

# Conversions are late: a row with one is there for the second task alone.
WEIGHTED = [TASKS[0], {**TASKS[1], "fake_negatives": "weighted"}]
CALIBRATED = [TASKS[0], {**TASKS[1], "fake_negatives": "calibrated"}]

# Case → what it has beside the defaults: features, tasks, derived outputs, model settings.
CASES = {kind: {"model": {"kind": kind}} for kind in KINDS}
CASES["squared-error"] = {"tasks": NUMBER, "derived": [], "model": {"kind": "mmoe"}}
CASES["aitm-3-tasks"] = {
    "tasks": [TASKS[0], {"name": "read", "label": "read"}, {"name": "buy", "label": "conversion", "given": "read"}],
    "derived": [],
    "model": {"kind": "aitm", "tower": [], "calibrator": 2.0},
}
for activation in ["leaky-relu", "elu", "gelu", "silu", "tanh"]:
    CASES[activation] = {"model": {"kind": "shared-bottom", "activation": activation}}
for kind in ["mmoe", "esmm", "aitm"]:
    CASES[f"fake-negatives-weighted-{kind}"] = {"tasks": WEIGHTED, "model": {"kind": kind}}
CASES["fake-negatives-calibrated"] = {"tasks": CALIBRATED, "model": {"kind": "cgc"}}
CASES["batch-norm"] = {"model": {"kind": "mmoe", "normalization": "batch"}}
CASES["layer-norm"] = {"model": {"kind": "cgc", "normalization": "layer", "activation": "gelu"}}
CASES["pooling"] = {"features": POOLED, "model": {"kind": "mmoe", "attention": [5, 3]}}
CASES["pooling-single-task"] = {
    "features": POOLED,
    "model": {"kind": "single-task", "attention": [], "activation": "silu", "bottom": [5]},
}
CASES["ple-3-levels"] = {"model": {"kind": "ple", "levels": 3, "expert": [5], "gate": [], "experts": 1, "task_experts": 1}}


def make_batch(random, features):
    """Codes from the whole range, missing among them, and an empty and a full sequence."""
    batch = {}
    for fitted in features:
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
    amount = random.normal(size=ROWS).astype(numpy.float32)
    conversion = conversion.astype(numpy.float32)
    return {"ctr": click, "cvr": conversion, "amount": amount, "read": click, "buy": conversion}


def rounded(tensor):
    """Nine significant digits: more than a 32-bit float holds."""
    return [float(f"{value:.9g}") for value in numpy.asarray(tensor, dtype=numpy.float64).ravel()]


def make_values(random, name, shape):
    """Values of a parameter; row 0 of a table is zero, and a variance is positive."""
    values = random.normal(scale=0.5, size=shape).astype(numpy.float32)
    if name.startswith("embedding."):
        values[0] = 0
    if name.endswith(".running_variance"):
        values = numpy.abs(values) + numpy.float32(0.1)
    return values


def write(case):
    random = numpy.random.default_rng(zlib.crc32(case.encode()))
    settings = CASES[case]
    features = settings.get("features", FEATURES)
    tasks, derived = settings.get("tasks", TASKS), settings.get("derived", DERIVED)
    configuration = {**WIDTHS, **settings["model"]}
    model = Model(features, tasks, derived, configuration).double()
    with torch.no_grad():
        for name, parameter in model.by_name().items():
            parameter.copy_(torch.from_numpy(make_values(random, name, tuple(parameter.shape))))
    batch, labels = make_batch(random, features), make_labels(random)
    labels = {task["name"]: labels[task["name"]] for task in tasks}
    tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
    tensors = {name: value.double() if value.is_floating_point() else value for name, value in tensors.items()}
    targets = {name: torch.from_numpy(values).double() for name, values in labels.items()}

    model.eval()
    served = model(tensors)
    model.train()
    outputs = model(tensors)
    late = targets["cvr"] if any("fake_negatives" in task for task in tasks) else None
    losses = model.losses(tensors, targets, late)
    losses["loss"].backward()

    def parameter_entry(parameter):
        entry = {"shape": list(parameter.shape), "values": rounded(parameter.detach())}
        if parameter.requires_grad:
            entry["gradient"] = rounded(parameter.grad)
        return entry

    golden = {
        "features": features,
        "tasks": tasks,
        "derived": derived,
        "model": configuration,
        "request_of": REQUEST_OF.tolist(),
        "inputs": {name: values.ravel().tolist() for name, values in batch.items()},
        "labels": {name: values.tolist() for name, values in labels.items()},
        **({"late": late.tolist()} if late is not None else {}),
        "outputs": {name: rounded(values.detach()) for name, values in outputs.items()},
        "served": {name: rounded(values.detach()) for name, values in served.items()},
        "losses": {name: rounded(value.detach())[0] for name, value in losses.items()},
        "parameters": {name: parameter_entry(value) for name, value in model.by_name().items()},
    }
    golden["inputs"] = {
        name: rounded(values) if batch[name].dtype == numpy.float32 else values
        for name, values in golden["inputs"].items()
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{case}.json"
    # One line a top-level entry: small differences stay readable.
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{path}: loss {golden['losses']['loss']:.6f}")


def main():
    for case in CASES:
        write(case)


if __name__ == "__main__":
    main()
