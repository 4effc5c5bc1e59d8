"""PyTorch training of the models of `cargo xtask bench train`, written by hand in three ways.

`dense`: dense embedding gradients and Adam, as a user writes it first.
`sparse`: sparse embedding gradients and SparseAdam.
`fused`: one table with offsets, the first layers of all experts (towers) in one product, SparseAdam.
"""

import torch
from data import LEARNING_RATE, TASKS, WIDTH, arguments, measure
from torch.nn import functional

EXPERTS, HIDDEN, OUTPUT, TOWER = 8, 256, 128, 64
ESMM_TOWER = [256, 128, 64]


def layers(widths):
    """Linear layers with a ReLU between each two."""
    parts = []
    for inputs, outputs in zip(widths, widths[1:]):
        parts += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    return torch.nn.Sequential(*parts[:-1])


class Tables(torch.nn.Module):
    """One embedding table a field."""

    def __init__(self, fields, rows_per_field, sparse):
        super().__init__()
        self.tables = torch.nn.ModuleList(
            [torch.nn.Embedding(rows_per_field, WIDTH, sparse=sparse) for _ in range(fields)]
        )

    def forward(self, ids):
        return torch.cat([table(ids[:, field]) for field, table in enumerate(self.tables)], 1)


class OneTable(torch.nn.Module):
    """All fields in one table, at offsets."""

    def __init__(self, fields, rows_per_field):
        super().__init__()
        self.tables = torch.nn.Embedding(rows_per_field * fields, WIDTH, sparse=True)
        self.register_buffer("offsets", torch.arange(fields) * rows_per_field)

    def forward(self, ids):
        return self.tables(ids + self.offsets).view(ids.shape[0], -1)


class Mmoe(torch.nn.Module):
    def __init__(self, inputs):
        super().__init__()
        expert = [inputs, HIDDEN, OUTPUT]
        self.experts = torch.nn.ModuleList(
            [torch.nn.Sequential(layers(expert), torch.nn.ReLU()) for _ in range(EXPERTS)]
        )
        self.gates = torch.nn.ModuleList([torch.nn.Linear(inputs, EXPERTS) for _ in range(TASKS)])
        self.towers = torch.nn.ModuleList([layers([OUTPUT, TOWER, 1]) for _ in range(TASKS)])

    def forward(self, rows):
        experts = torch.stack([expert(rows) for expert in self.experts], 1)
        logits = []
        for gate, tower in zip(self.gates, self.towers):
            mixed = (torch.softmax(gate(rows), 1).unsqueeze(2) * experts).sum(1)
            logits.append(tower(mixed))
        return torch.cat(logits, 1)


class FusedMmoe(torch.nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.first = torch.nn.Linear(inputs, EXPERTS * HIDDEN)
        self.second_weight = torch.nn.Parameter(torch.randn(EXPERTS, HIDDEN, OUTPUT) * 0.05)
        self.second_bias = torch.nn.Parameter(torch.zeros(EXPERTS, 1, OUTPUT))
        self.gates = torch.nn.Linear(inputs, TASKS * EXPERTS)
        self.towers = torch.nn.ModuleList([layers([OUTPUT, TOWER, 1]) for _ in range(TASKS)])

    def forward(self, rows):
        count = rows.shape[0]
        hidden = torch.relu(self.first(rows)).view(count, EXPERTS, HIDDEN).transpose(0, 1)
        experts = torch.relu(torch.baddbmm(self.second_bias, hidden, self.second_weight)).transpose(0, 1)
        gates = torch.softmax(self.gates(rows).view(count, TASKS, EXPERTS), 2)
        mixed = torch.bmm(gates, experts)
        return torch.cat([tower(mixed[:, task]) for task, tower in enumerate(self.towers)], 1)


class Esmm(torch.nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.towers = torch.nn.ModuleList([layers([inputs, *ESMM_TOWER, 1]) for _ in range(TASKS)])

    def forward(self, rows):
        return torch.cat([tower(rows) for tower in self.towers], 1)


class FusedEsmm(torch.nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.first = torch.nn.Linear(inputs, TASKS * ESMM_TOWER[0])
        self.towers = torch.nn.ModuleList([layers([*ESMM_TOWER, 1]) for _ in range(TASKS)])

    def forward(self, rows):
        hidden = torch.relu(self.first(rows)).chunk(TASKS, 1)
        return torch.cat([tower(part) for tower, part in zip(self.towers, hidden)], 1)


def mmoe_loss(logits, labels):
    """The sum of the tasks' mean losses."""
    return functional.binary_cross_entropy_with_logits(logits, labels) * TASKS


def esmm_loss(logits, labels):
    """The loss of ctr and that of ctcvr = ctr · cvr, over all impressions."""
    ctr, cvr = torch.sigmoid(logits).unbind(1)
    click = functional.binary_cross_entropy(ctr, labels[:, 0])
    return click + functional.binary_cross_entropy((ctr * cvr).clamp(1e-7, 1 - 1e-7), labels[:, 1])


def main():
    parsed, workload = arguments(__doc__, ["dense", "sparse", "fused"])
    sparse, fused = parsed.variant != "dense", parsed.variant == "fused"
    if fused:
        tables = OneTable(workload.fields, workload.rows_per_field)
    else:
        tables = Tables(workload.fields, workload.rows_per_field, sparse)
    kinds = {
        "mmoe": (FusedMmoe if fused else Mmoe, mmoe_loss),
        "esmm": (FusedEsmm if fused else Esmm, esmm_loss),
    }
    network, loss_of = kinds[workload.model]
    network = network(workload.fields * WIDTH)
    if sparse:
        optimizers = [
            torch.optim.Adam(network.parameters(), lr=LEARNING_RATE),
            torch.optim.SparseAdam(list(tables.parameters()), lr=LEARNING_RATE),
        ]
    else:
        optimizers = [torch.optim.Adam([*network.parameters(), *tables.parameters()], lr=LEARNING_RATE)]

    ids, labels = (torch.from_numpy(part) for part in workload.first(parsed.steps))

    def step(ids, labels):
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss_of(network(tables(ids)), labels).backward()
        for optimizer in optimizers:
            optimizer.step()

    batches = list(zip(ids.split(workload.batch), labels.split(workload.batch)))
    for batch in batches[:2]:
        step(*batch)
    measure(parsed, parsed.variant, lambda: [step(*batch) for batch in batches], len(ids))


if __name__ == "__main__":
    main()
