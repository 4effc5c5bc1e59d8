"""Brings a sample set of samples.toml into the layout of SPEC.md, so that the peers' check.py compares it.

Run:   python convert.py --samples DIR --out DIR
The set must have been built with --raw train --raw valid --raw test: shards hold codes, and the identifiers
and counts that check.py compares as well are raw values. Rows stay in their order, which is checked too.
"""
import argparse
import glob
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SPLITS = ["train", "valid", "test"]
COUNTS = [f"{kind}_{window}" for kind in ("u_clk", "u_imp", "i_clk", "i_imp") for window in ("1h", "1d", "7d")]
CODED = ["city", "item", "category", "brand", "seller", "device"]
# Code 0 is padding and 1 is missing; SPEC.md has no padding of these, and nothing missing of the last.
LESS_ONE = {"age": "age", "gender": "gender", "level": "level", "price_b": "price"}
LESS_TWO = ["user_hash", *COUNTS]


def split(samples, name):
    shards = pa.concat_tables(pq.read_table(path) for path in sorted(glob.glob(f"{samples}/{name}-*.parquet")))
    raw = pq.read_table(f"{samples}/raw-{name}.parquet")
    for key in ("request_id", "time"):
        if not shards[key].equals(raw[key]):
            raise SystemExit(f"{samples}: shards and raw rows of {name} differ in {key}")
    out = {
        "request_id": shards["request_id"],
        "user_id": raw["user_hash"],
        "item_id": raw["item"],
        "ts": shards["time"].cast(pa.timestamp("us")),
        "hist": shards["hist"],
        "hist_raw": raw["hist"],
    }
    for column in ("position", "click", "conversion"):
        out[column] = shards[column].cast(pa.int8())
    for column in CODED:
        out[column] = shards[column]
    for column, feature in LESS_ONE.items():
        out[column] = pc.subtract(shards[feature], 1)
    for column in LESS_TWO:
        out[column] = pc.subtract(shards[column], 2)
    for column in COUNTS:
        out[f"n_{column}"] = raw[column]
    return pa.table(out)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--samples", required=True)
    arguments.add_argument("--out", required=True)
    a = arguments.parse_args()
    os.makedirs(f"{a.out}/vocab", exist_ok=True)
    for name in SPLITS:
        pq.write_table(split(a.samples, name), f"{a.out}/{name}.parquet", compression="zstd", row_group_size=1_000_000)
    raw = pq.read_table(f"{a.samples}/raw-train.parquet", columns=CODED)
    for column in CODED:
        with open(f"{a.samples}/vocab/{column}.json", encoding="utf-8") as file:
            (values,) = json.load(file)["values"].values()
        # Sample sets do not keep how often a value was seen.
        seen = {one["values"]: one["counts"] for one in pc.value_counts(raw[column]).to_pylist()}
        table = {"value": values, "freq": [seen[value] for value in values], "code": np.arange(len(values)) + 3}
        pq.write_table(pa.table(table), f"{a.out}/vocab/{column}.parquet")


if __name__ == "__main__":
    main()
