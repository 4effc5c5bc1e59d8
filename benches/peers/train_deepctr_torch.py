"""DeepCTR-Torch's training of the models of `cargo xtask bench train`, called as its users call it:
`SparseFeat` columns, `compile("adam")`, `fit`.
"""

import contextlib
import sys

from data import WIDTH, arguments, measure
from deepctr_torch.inputs import SparseFeat
from deepctr_torch.models import ESMM, MMOE


def main():
    parsed, workload = arguments(__doc__)
    names = [f"field_{field}" for field in range(workload.fields)]
    columns = [SparseFeat(name, workload.rows_per_field, embedding_dim=WIDTH) for name in names]
    common = {"l2_reg_embedding": 0, "task_types": ["binary", "binary"], "device": "cpu"}
    if workload.model == "mmoe":
        model = MMOE(
            columns,
            num_experts=8,
            expert_dnn_hidden_units=(256, 128),
            gate_dnn_hidden_units=(),
            tower_dnn_hidden_units=(64,),
            task_names=["a", "b"],
            **common,
        )
    else:
        model = ESMM(columns, tower_dnn_hidden_units=(256, 128, 64), task_names=["ctr", "ctcvr"], **common)
    model.compile("adam", loss=["binary_crossentropy"] * 2, metrics=[])

    def fit(steps):
        ids, labels = workload.first(steps)
        inputs = {name: ids[:, field] for field, name in enumerate(names)}
        with contextlib.redirect_stdout(sys.stderr):
            model.fit(inputs, labels, batch_size=workload.batch, epochs=1, verbose=0, shuffle=False)

    fit(2)
    measure(parsed, "deepctr-torch", lambda: fit(parsed.steps), len(workload.first(parsed.steps)[0]))


if __name__ == "__main__":
    main()
