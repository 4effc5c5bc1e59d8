"""Streams over `tritonclient`: replies in the order of the requests, errors in their place."""

from queue import Queue

import pytest
import tritonclient.grpc as triton
from conftest import inputs_of
from tritonclient.utils import InferenceServerException

REQUESTS = 60


def test_replies_keep_the_order_of_requests_and_outlive_an_error(client, model, scored):
    replies = Queue()
    client.start_stream(lambda result, error: replies.put((result, error)))
    for number in range(REQUESTS):
        one = scored[number % len(scored)]
        name = "nothing" if number == 7 else model
        client.async_stream_infer(name, inputs_of(one.tensors), request_id=f"r{number}")
    for number in range(REQUESTS):
        result, error = replies.get(timeout=30)
        if number == 7:
            assert "NOT_FOUND: no model is named 'nothing'" in error.message()
            continue
        assert error is None, error
        assert result.get_response().id == f"r{number}"
        assert result.get_response().parameters["triton_final_response"].bool_param
        scored[number % len(scored)].check(result)
    client.stop_stream()


def test_a_stream_may_ask_for_outputs(client, model, scored):
    replies = Queue()
    one = scored[0]
    name = list(one.scores)[-1]
    client.start_stream(lambda result, error: replies.put((result, error)))
    client.async_stream_infer(
        model,
        inputs_of(one.tensors),
        outputs=[triton.InferRequestedOutput(name)],
        enable_empty_final_response=True,
    )
    result, error = replies.get(timeout=30)
    assert error is None, error
    assert [output.name for output in result.get_response().outputs] == [name]
    one.check(result, [name])
    client.stop_stream()
    assert replies.empty(), "one reply a request"


def test_a_stream_has_a_deadline(client, model, scored):
    replies = Queue()
    client.start_stream(lambda result, error: replies.put((result, error)), stream_timeout=0.2)
    result, error = replies.get(timeout=30)
    assert result is None and isinstance(error, InferenceServerException)
    assert error.status() == "StatusCode.DEADLINE_EXCEEDED"
    client.stop_stream()
