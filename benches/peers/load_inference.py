"""A closed loop of requests over the Open Inference Protocol; prints candidates scored a second.

    python benches/peers/load_inference.py --server 127.0.0.1:8081 --requests mix.json --seconds 3

Each field gets random codes: what they are does not change what scoring them costs.
"""

import argparse
import json
import pathlib
import threading
import time

import numpy
import tritonclient.grpc as triton

CODES = 40_000
PATIENCE = 60.0


def prepared(path, candidates):
    """The inputs of every request, with one row a candidate each."""
    random = numpy.random.default_rng(1)
    for request in json.loads(path.read_text()):
        fields = [*request["user"], *request["items"]]
        rows = candidates or len(next(iter(request["items"].values())))
        inputs = []
        for field in fields:
            tensor = triton.InferInput(field, [rows], "INT32")
            tensor.set_data_from_numpy(random.integers(2, CODES, rows).astype(numpy.int32))
            inputs.append(tensor)
        yield inputs, rows


def wait(client):
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if client.is_model_ready("mmoe"):
                return
        except triton.InferenceServerException:
            pass
        if time.monotonic() > end:
            raise SystemExit(f"the server has no model after {PATIENCE:.0f} s")
        time.sleep(0.2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--requests", type=pathlib.Path, required=True)
    parser.add_argument("--candidates", type=int)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--clients", type=int, default=4)
    arguments = parser.parse_args()
    requests = list(prepared(arguments.requests, arguments.candidates))
    wait(triton.InferenceServerClient(arguments.server))
    start = time.monotonic()
    counts = [0] * arguments.clients

    def loop(index):
        client = triton.InferenceServerClient(arguments.server)
        place = index
        while time.monotonic() < start + arguments.seconds:
            inputs, rows = requests[place % len(requests)]
            reply = client.infer("mmoe", inputs)
            assert len(reply.as_numpy(reply.get_response().outputs[0].name).reshape(-1)) == rows
            counts[index] += rows
            place += arguments.clients

    threads = [threading.Thread(target=loop, args=(index,)) for index in range(arguments.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - start
    print(json.dumps({"candidates_per_second": sum(counts) / seconds, "seconds": seconds}))


if __name__ == "__main__":
    main()
