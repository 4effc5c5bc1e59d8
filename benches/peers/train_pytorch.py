"""PyTorch training of the MMoE of `cargo xtask bench train`, written by hand in three ways.

`dense`: dense embedding gradients and Adam, as a user writes it first.
`sparse`: sparse embedding gradients and SparseAdam.
`fused`: one table with offsets, all experts in one product, SparseAdam.

The data is what `gatefold-bench train-data` wrote: `ids.i32`, `labels.f32` and `shape.json`.
Prints one JSON object a round on stdout.
"""

import argparse
import json
import pathlib
import time

import numpy
import torch

WIDTH, EXPERTS, HIDDEN, OUTPUT, TOWER, TASKS = 16, 8, 256, 128, 64, 2


class Mmoe(torch.nn.Module):
    def __init__(self, fields, rows_per_field, sparse):
        super().__init__()
        linear, relu = torch.nn.Linear, torch.nn.ReLU
        inputs = fields * WIDTH
        self.tables = torch.nn.ModuleList(
            [torch.nn.Embedding(rows_per_field, WIDTH, sparse=sparse) for _ in range(fields)]
        )
        self.experts = torch.nn.ModuleList(
            [
                torch.nn.Sequential(linear(inputs, HIDDEN), relu(), linear(HIDDEN, OUTPUT), relu())
                for _ in range(EXPERTS)
            ]
        )
        self.gates = torch.nn.ModuleList(
            [torch.nn.Sequential(linear(inputs, EXPERTS), torch.nn.Softmax(dim=1)) for _ in range(TASKS)]
        )
        self.towers = torch.nn.ModuleList(
            [torch.nn.Sequential(linear(OUTPUT, TOWER), relu(), linear(TOWER, 1)) for _ in range(TASKS)]
        )

    def forward(self, ids):
        rows = torch.cat([table(ids[:, field]) for field, table in enumerate(self.tables)], 1)
        experts = torch.stack([expert(rows) for expert in self.experts], 1)
        logits = []
        for gate, tower in zip(self.gates, self.towers):
            mixed = (gate(rows).unsqueeze(2) * experts).sum(1)
            logits.append(tower(mixed))
        return torch.cat(logits, 1)


class FusedMmoe(torch.nn.Module):
    def __init__(self, fields, rows_per_field):
        super().__init__()
        linear, relu = torch.nn.Linear, torch.nn.ReLU
        inputs = fields * WIDTH
        self.tables = torch.nn.Embedding(rows_per_field * fields, WIDTH, sparse=True)
        self.register_buffer("offsets", torch.arange(fields) * rows_per_field)
        self.first = linear(inputs, EXPERTS * HIDDEN)
        self.second_weight = torch.nn.Parameter(torch.randn(EXPERTS, HIDDEN, OUTPUT) * 0.05)
        self.second_bias = torch.nn.Parameter(torch.zeros(EXPERTS, 1, OUTPUT))
        self.gates = linear(inputs, TASKS * EXPERTS)
        self.towers = torch.nn.ModuleList(
            [torch.nn.Sequential(linear(OUTPUT, TOWER), relu(), linear(TOWER, 1)) for _ in range(TASKS)]
        )

    def forward(self, ids):
        count = ids.shape[0]
        rows = self.tables(ids + self.offsets).view(count, -1)
        hidden = torch.relu(self.first(rows)).view(count, EXPERTS, HIDDEN).transpose(0, 1)
        experts = torch.relu(torch.baddbmm(self.second_bias, hidden, self.second_weight)).transpose(0, 1)
        gates = torch.softmax(self.gates(rows).view(count, TASKS, EXPERTS), 2)
        mixed = torch.bmm(gates, experts)
        return torch.cat([tower(mixed[:, task]) for task, tower in enumerate(self.towers)], 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=["dense", "sparse", "fused"])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    shape = json.loads((arguments.data / "shape.json").read_text())
    samples, fields, rows_per_field = shape["samples"], shape["fields"], shape["rows_per_field"]
    ids = numpy.fromfile(arguments.data / "ids.i32", dtype="<i4").reshape(samples, fields)
    ids = torch.from_numpy(ids.astype(numpy.int64))
    labels = torch.from_numpy(numpy.fromfile(arguments.data / "labels.f32", dtype="<f4").reshape(samples, TASKS))

    sparse = arguments.variant != "dense"
    if arguments.variant == "fused":
        model = FusedMmoe(fields, rows_per_field)
    else:
        model = Mmoe(fields, rows_per_field, sparse)
    named = list(model.named_parameters())
    tables = [parameter for name, parameter in named if name.startswith("tables")]
    others = [parameter for name, parameter in named if not name.startswith("tables")]
    optimizers = [torch.optim.Adam(others + ([] if sparse else tables), lr=1e-3)]
    if sparse:
        optimizers.append(torch.optim.SparseAdam(tables, lr=1e-3))

    def step(start):
        end = start + arguments.batch
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(ids[start:end]), labels[start:end])
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    starts = range(0, samples - arguments.batch + 1, arguments.batch)
    for start in starts[:2]:
        step(start)
    for _ in range(arguments.rounds):
        begin = time.perf_counter()
        for start in starts:
            step(start)
        seconds = time.perf_counter() - begin
        figures = {
            "variant": arguments.variant,
            "samples_per_second": len(starts) * arguments.batch / seconds,
            "seconds": seconds,
        }
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
