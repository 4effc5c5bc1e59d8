"""MLServer with an ONNX Runtime model, as its documentation has custom models written.

    python benches/peers/serve_mlserver.py --graph model.onnx --port 8081

One process that computes in one thread, which costs least processor time a candidate.
"""

import argparse
import asyncio

import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            self.settings.parameters.uri, options, providers=["CPUExecutionProvider"]
        )
        self.scores = [output.name for output in self.session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        inputs = {entry.name: NumpyCodec.decode_input(entry).reshape(-1) for entry in payload.inputs}
        scores = self.session.run(self.scores, inputs)
        return InferenceResponse(
            model_name=self.name,
            outputs=[NumpyCodec.encode_output(name, values) for name, values in zip(self.scores, scores)],
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graph", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, required=True)
    arguments = parser.parse_args()
    settings = Settings(
        host="127.0.0.1",
        grpc_port=arguments.port,
        http_port=arguments.http_port,
        metrics_port=arguments.metrics_port,
        parallel_workers=0,
        debug=False,
    )
    model = ModelSettings(
        name="mmoe", implementation=OnnxModel, parameters=ModelParameters(uri=arguments.graph, version="1")
    )
    asyncio.run(MLServer(settings).start([model]))


if __name__ == "__main__":
    main()
