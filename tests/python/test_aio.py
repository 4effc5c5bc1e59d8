"""The asynchronous client: calls side by side, and a stream."""

import asyncio

import pytest
import tritonclient.grpc.aio as triton
from conftest import inputs_of
from tritonclient.utils import InferenceServerException


def run(server, test):
    async def main():
        async with triton.InferenceServerClient(server) as client:
            await test(client)

    asyncio.run(main())


def test_calls_run_side_by_side(server, model, scored):
    async def test(client):
        assert await client.is_server_ready() and await client.is_model_ready(model)
        calls = [client.infer(model, inputs_of(one.tensors)) for one in scored]
        for one, result in zip(scored, await asyncio.gather(*calls)):
            one.check(result)

    run(server, test)


def test_a_refusal_is_an_exception(server, model, scored):
    async def test(client):
        with pytest.raises(InferenceServerException) as caught:
            await client.infer(model, inputs_of(scored[0].tensors)[:1])
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
        assert "missing: " in caught.value.message()

    run(server, test)


def test_a_stream_keeps_its_order(server, model, scored):
    async def requests():
        for number in range(40):
            one = scored[number % len(scored)]
            yield {"model_name": model, "inputs": inputs_of(one.tensors), "request_id": f"r{number}"}

    async def test(client):
        number = 0
        async for result, error in client.stream_infer(requests()):
            assert error is None, error
            assert result.get_response().id == f"r{number}"
            scored[number % len(scored)].check(result)
            number += 1
        assert number == 40

    run(server, test)


def test_a_cancelled_call_leaves_the_server_as_it_was(server, model, scored):
    async def test(client):
        call = asyncio.ensure_future(client.infer(model, inputs_of(scored[0].tensors)))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises((asyncio.CancelledError, InferenceServerException)):
            await call
        scored[0].check(await client.infer(model, inputs_of(scored[0].tensors)))

    run(server, test)
