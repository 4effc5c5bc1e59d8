"""torch-rechub's training of the models of `cargo xtask bench train`, called as its users call it:
`SparseFeature`s, a data loader, `MTLTrainer` with Adam.
"""

import contextlib
import sys

import torch
from data import LEARNING_RATE, TASKS, WIDTH, arguments, measure
from torch_rechub.basic.features import SparseFeature
from torch_rechub.models.multi_task import ESMM, MMOE
from torch_rechub.trainers import MTLTrainer
from torch_rechub.utils.data import DataGenerator


def main():
    parsed, workload = arguments(__doc__)
    names = [f"field_{field}" for field in range(workload.fields)]
    features = [SparseFeature(name, workload.rows_per_field, embed_dim=WIDTH) for name in names]
    if workload.model == "mmoe":
        expert, tower = {"dims": [256, 128]}, {"dims": [64]}
        model = MMOE(features, ["classification"] * TASKS, 8, expert, [tower] * TASKS)
        tasks = TASKS
    else:
        half, tower = len(features) // 2, {"dims": [256, 128, 64]}
        model = ESMM(features[:half], features[half:], tower, tower)
        tasks = 3
    trainer = MTLTrainer(
        model,
        task_types=["classification"] * tasks,
        optimizer_params={"lr": LEARNING_RATE, "weight_decay": 0.0},
        n_epoch=1,
    )

    def loader(steps):
        ids, labels = workload.first(steps)
        if workload.model == "esmm":
            # Columns: cvr (no loss), ctr, ctcvr.
            labels = labels[:, [1, 0, 1]]
        columns = {name: ids[:, field] for field, name in enumerate(names)}
        generator = DataGenerator(columns, labels)
        return generator.generate_dataloader(
            x_val=columns, y_val=labels, x_test=columns, y_test=labels, batch_size=workload.batch
        )[0]

    with contextlib.redirect_stdout(sys.stderr):
        trainer.train_one_epoch(loader(2))
    train = loader(parsed.steps)
    measure(parsed, "torch-rechub", lambda: trainer.train_one_epoch(train), len(workload.first(parsed.steps)[0]))


if __name__ == "__main__":
    main()
