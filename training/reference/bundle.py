"""A model bundle's weights in the PyTorch reference: compare the two, or export ONNX from PyTorch.

    python training/reference/bundle.py check models/mmoe/1
    python training/reference/bundle.py export models/mmoe/1 --out mmoe.onnx
"""

import argparse
import json
import pathlib
import sys

import numpy
import onnx
import onnxruntime
import torch

from models import Model, load_parameters
from net import code_count

TOLERANCE = 1e-5


def load(folder):
    """The reference model with the weights of the bundle's plain graph, and the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    if not manifest.get("model"):
        sys.exit(f"{folder}: the manifest describes no model: only bundles that Gatefold trained can be loaded")
    configuration = manifest["model"]
    if configuration.get("normalization") == "batch":  # folded into the layers of what is served
        configuration = {**configuration, "normalization": "none"}
    model = Model(manifest["features"], manifest["tasks"], manifest["derived"], configuration)
    graph = onnx.load(folder / manifest["plain"]["file"]).graph
    values = {}
    for tensor in graph.initializer:
        array = numpy.array(onnx.numpy_helper.to_array(tensor))
        if tensor.name.endswith("/gru"):
            values.update(gru_parameters(tensor.name.removesuffix("/gru"), array[0]))
        else:
            values[tensor.name.removesuffix(".folded")] = array
    missing = sorted(set(model.by_name()) - set(values))
    if missing:
        sys.exit(f"{folder}: the graph has no initializers {missing}")
    arrays = {name: values[name] for name in model.by_name()}
    load_parameters(model, arrays)
    return model, manifest


def gru_parameters(name, array):
    """The parameters of a GRU from an input of ONNX's operator: rows in the order z, r, n, where the
    trainer has columns r, z, n; both biases, `<name>+<name>`, end to end."""
    names = name.split("+")
    for name, part in zip(names, numpy.split(array, len(names))):
        z, r, n = numpy.split(part, 3)
        yield name, numpy.concatenate([r, z, n]).T


def random_batch(manifest, rows, seed):
    """Random codes over each whole table and random numbers, as NumPy arrays by feature."""
    random = numpy.random.default_rng(seed)
    batch = {}
    for fitted in manifest["features"]:
        feature = fitted["feature"]
        if feature["kind"] == "numeric":
            batch[feature["name"]] = random.normal(size=rows).astype(numpy.float32)
        elif feature["kind"] == "categorical":
            batch[feature["name"]] = random.integers(1, code_count(fitted), size=rows).astype(numpy.int32)
        else:
            length = feature["max_len"]
            codes = random.integers(1, code_count(fitted), size=(rows, length)).astype(numpy.int32)
            codes[numpy.arange(length)[None, :] >= random.integers(0, length + 1, size=rows)[:, None]] = 0
            batch[feature["name"]] = codes
    return batch


def scores_of(model, batch):
    with torch.no_grad():
        outputs = model({name: torch.from_numpy(values) for name, values in batch.items()})
    return {name: values.numpy() for name, values in outputs.items()}


def difference(model, session, inputs, batch):
    """Largest difference of any output of the reference from an ONNX Runtime session."""
    expected = scores_of(model, batch)
    names = list(expected)
    found = session.run(names, {graph_input: batch[feature] for graph_input, feature in inputs.items()})
    return max(float(numpy.abs(expected[name] - values).max()) for name, values in zip(names, found))


def check(folder, rows, seed):
    model, manifest = load(folder)
    session = onnxruntime.InferenceSession(folder / manifest["plain"]["file"], providers=["CPUExecutionProvider"])
    inputs = {entry["name"]: entry["feature"] for entry in manifest["plain"]["inputs"]}
    largest = difference(model, session, inputs, random_batch(manifest, rows, seed))
    print(f"{folder}: largest difference {largest:.2e} on {rows} random rows (at most {TOLERANCE:.0e})")
    return largest <= TOLERANCE


class Positional(torch.nn.Module):
    """The model with its inputs and outputs in order, as the exporter wants them."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.inputs = [feature["name"] for feature in model.features]

    def forward(self, *values):
        return tuple(self.model(dict(zip(self.inputs, values))).values())


def export(folder, out, seed):
    model, manifest = load(folder)
    batch = random_batch(manifest, 5, seed)
    wrapped = Positional(model).eval()
    example = tuple(torch.from_numpy(batch[name]) for name in wrapped.inputs)
    rows = torch.export.Dim("rows")
    program = torch.onnx.export(
        wrapped,
        example,
        input_names=wrapped.inputs,
        output_names=[output["name"] for output in manifest["outputs"]],
        dynamic_shapes=(tuple({0: rows} for _ in wrapped.inputs),),
        dynamo=True,
        verbose=False,
    )
    program.save(out)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    inputs = {name: name for name in wrapped.inputs}
    largest = difference(model, session, inputs, random_batch(manifest, 64, seed + 1))
    print(f"{out}: largest difference {largest:.2e} (at most {TOLERANCE:.0e})")
    return largest <= TOLERANCE


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["check", "export"])
    parser.add_argument("bundle", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("model.onnx"))
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.action == "check":
        agrees = check(arguments.bundle, arguments.rows, arguments.seed)
    else:
        agrees = export(arguments.bundle, arguments.out, arguments.seed)
    sys.exit(0 if agrees else 1)


if __name__ == "__main__":
    main()
