"""Multi-task models of other libraries as ONNX files, with the map that `gatefold bundle import` reads.

    python training/reference/foreign.py torch-rechub --out work/foreign
    python training/reference/foreign.py deepctr-torch --out work/foreign --size serving

Each writes `<library>.onnx`, `<library>.toml` and `<library>.golden.json`, requests with the scores that
PyTorch gives them, so that the import compares the two. It needs `benches/peers/requirements.txt`. User and item columns are interleaved on purpose, a
history on the user's side shares its table with the item, and a number stands on each side: what real
models have. `--size serving` is the model of `cargo xtask bench serve`: 18 user and 8 item fields × 16,
8 experts 256-128, two towers of 64. `--exporter torchscript` uses PyTorch's older exporter, whose graphs
take batch sizes from tensors.
"""

import argparse
import contextlib
import io
import json
import pathlib

import torch

SIZES = {
    "small": dict(user=3, item=2, rows=50, width=4, experts=3, expert=(8, 6), tower=(5,), history=5),
    "serving": dict(user=18, item=8, rows=10000, width=16, experts=8, expert=(256, 128), tower=(64,), history=0),
}


def fields(size):
    """Name, side and kind of each input, user and item interleaved."""
    users = [(f"user_{index}", "user", "id") for index in range(size["user"])]
    items = [(f"item_{index}", "item", "id") for index in range(size["item"])]
    mixed = []
    while users or items:
        mixed += users[:2] + items[:1]
        users, items = users[2:], items[1:]
    if size["history"]:
        mixed.insert(2, ("history", "user", "sequence"))
        mixed.insert(1, ("price", "item", "number"))
        mixed.append(("age", "user", "number"))
    return mixed


def torch_rechub(size):
    from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature
    from torch_rechub.models.multi_task import MMOE

    def feature(name, kind):
        if kind == "id":
            return SparseFeature(name, vocab_size=size["rows"], embed_dim=size["width"])
        if kind == "sequence":
            shared = dict(pooling="mean", shared_with="item_0", padding_idx=0)
            return SequenceFeature(name, vocab_size=size["rows"], embed_dim=size["width"], **shared)
        return DenseFeature(name)

    features = [feature(name, kind) for name, _, kind in fields(size)]
    experts = {"dims": list(size["expert"]), "activation": "relu"}
    towers = [{"dims": list(size["tower"]), "activation": "relu"} for _ in range(2)]
    model = MMOE(features, ["classification"] * 2, size["experts"], experts, towers)
    lively(model)
    names = [feature.name for feature in model.features]

    class Positional(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *values):
            return self.model(dict(zip(names, values)))

    def example(name, side, kind):
        if kind == "number":
            return torch.rand(4)
        return torch.randint(1, size["rows"], (4, size["history"]) if kind == "sequence" else (4,))

    return Positional(), [example(*field) for field in fields(size)], names


def deepctr_torch(size):
    from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat
    from deepctr_torch.models import MMOE

    def feature(name, kind):
        if kind == "id":
            return SparseFeat(name, size["rows"], embedding_dim=size["width"])
        if kind == "sequence":
            of_item = SparseFeat(name, size["rows"], embedding_dim=size["width"], embedding_name="item_0")
            return VarLenSparseFeat(of_item, maxlen=size["history"], combiner="mean")
        return DenseFeat(name)

    columns = [feature(name, kind) for name, _, kind in fields(size)]
    model = MMOE(
        columns,
        num_experts=size["experts"],
        expert_dnn_hidden_units=size["expert"],
        gate_dnn_hidden_units=(),
        tower_dnn_hidden_units=size["tower"],
        dnn_use_bn=size["history"] > 0,
        init_std=0.1,
        device="cpu",
    )
    lively(model)
    width = sum(size["history"] if kind == "sequence" else 1 for _, _, kind in fields(size))
    return model, [torch.randint(1, size["rows"], (4, width)).float()], ["X"]


def lively(model):
    """Statistics of batch normalisation as a training leaves them, weights that tell inputs apart."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=0.5)


def feature_map(library, size):
    """The map file: which input, or which column of the one matrix, carries which feature."""
    lines = [f'name = "{library.replace("-", "_")}"', "[golden]", f'file = "{library}.golden.json"', ""]
    column = 0
    for name, side, kind in fields(size):
        width = size["history"] if kind == "sequence" else 1
        lines += ["[[feature]]", f'name = "{name}"', f'side = "{side}"']
        if kind == "number":
            lines += ['kind = "numeric"', 'type = "float"', 'encoder = { kind = "none" }']
        else:
            lines += [f'kind = "{"sequence" if kind == "sequence" else "categorical"}"', 'type = "int"']
            lines += [f'encoder = {{ kind = "given", codes = {size["rows"]} }}']
        if kind == "sequence":
            lines += [f"max_len = {width}"]
        if library == "deepctr-torch":
            lines += ['input = "X"', f"column = {column}"]
        lines += [""]
        column += width
    for index, (task, given) in enumerate([("ctr", ""), ("cvr", 'given = "ctr"')]):
        lines += ["[[task]]", f'name = "{task}"', f'label = "{["click", "conversion"][index]}"']
        lines += [given] * bool(given) + ['output = "output"', f"column = {index}", ""]
    return "\n".join(lines)


def golden(library, model, size):
    """Random requests with the scores that the model gives them in PyTorch."""
    requests = []
    for number, candidates in enumerate([3, 1, 6]):
        request = {"request_id": f"golden-{number}", "user": {}, "items": {}}
        columns = []
        for name, side, kind in fields(size):
            rows = 1 if side == "user" else candidates
            if kind == "number":
                values = torch.rand(rows)
            elif kind == "sequence":
                values = torch.randint(1, size["rows"], (rows, size["history"]))
                values[:, 1 + number :] = 0
            else:
                values = torch.randint(0, size["rows"], (rows,))
            raw = [row[row != 0].tolist() for row in values] if kind == "sequence" else values.tolist()
            if side == "user":
                request["user"][name] = raw[0]
            else:
                request["items"][name] = raw
            columns.append(values.expand(candidates, *values.shape[1:]) if side == "user" else values)
        if library == "deepctr-torch":
            columns = [torch.cat([column.reshape(candidates, -1).float() for column in columns], dim=1)]
        with torch.no_grad():
            scores = model(*columns)
        scores = {name: scores[:, index].tolist() for index, name in enumerate(["ctr", "cvr"])}
        requests.append({"request": request, "scores": scores})
    return {"requests": requests}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=["torch-rechub", "deepctr-torch"])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--exporter", choices=["dynamo", "torchscript"], default="dynamo")
    arguments = parser.parse_args()
    torch.manual_seed(7)
    size = SIZES[arguments.size]
    with contextlib.redirect_stdout(io.StringIO()):  # both libraries talk
        model, example, names = {"torch-rechub": torch_rechub, "deepctr-torch": deepctr_torch}[arguments.library](size)
        model.eval()
        arguments.out.mkdir(parents=True, exist_ok=True)
        file = arguments.out / f"{arguments.library}.onnx"
        form = dict(input_names=names, output_names=["output"])
        if arguments.exporter == "dynamo":
            rows = torch.export.Dim("batch")
            each = tuple({0: rows} for _ in names)
            shapes = (each,) if arguments.library == "torch-rechub" else each
            torch.onnx.export(model, tuple(example), file, dynamo=True, dynamic_shapes=shapes, verbose=False, **form)
        else:
            axes = {name: {0: "batch"} for name in [*names, "output"]}
            torch.onnx.export(model, tuple(example), file, dynamo=False, dynamic_axes=axes, **form)
        scores = golden(arguments.library, model, size)
    file.with_suffix(".toml").write_text(feature_map(arguments.library, size))
    file.with_suffix(".golden.json").write_text(json.dumps(scores, indent=1))


if __name__ == "__main__":
    main()
