"""What a script makes the fake worker do, and that its book tells the truth about it."""

import http.client
import json
from typing import Any

import pytest

from doubles.worker_process import Behaviour, Entry, FakeWorker, Match, Options, ServerState
from doubles_tests.wire import Answer, JsonObject, call, next_event, opened

_CHAT = "/v1/chat/completions"
_BROKEN = (ConnectionResetError, http.client.IncompleteRead, http.client.RemoteDisconnected)


def _body(content: str = "hi", **fields: Any) -> JsonObject:
    options = {"include_usage": True, "continuous_usage_stats": True}
    return {"messages": [{"role": "user", "content": content}], "stream": True, "stream_options": options, **fields}


def _stream(worker: FakeWorker, **fields: Any) -> list[Any]:
    return call(worker.url, _CHAT, _body(**fields)).events


def _text(events: list[Any]) -> str:
    deltas = [event["choices"][0]["delta"] for event in events if event != "[DONE]" and event["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def _only(worker: FakeWorker) -> Entry:
    (entry,) = worker.wait_idle()
    return entry


def test_texts_go_by_the_agent_in_the_rid(fake_worker: FakeWorker) -> None:
    fake_worker.script(Behaviour(texts=["FINAL: 42", "FINAL: 7"]), Match(phase="tr"))
    ulid = "req_01ARZ3NDEKTSV4RRFFQ69G5FAV"
    told = [_text(_stream(fake_worker, rid=f"{ulid}.t0{agent:02}00001")) for agent in range(3)]
    assert told == ["FINAL: 42", "FINAL: 7", "FINAL: 42"]
    assert _text(_stream(fake_worker, rid=f"{ulid}.a000000001")) not in told


def test_a_rule_is_used_up_and_the_last_one_wins(fake_worker: FakeWorker) -> None:
    fake_worker.script(Behaviour(text="always"))
    fake_worker.script(Behaviour(text="once"), times=1)
    assert [_text(_stream(fake_worker)) for _ in range(3)] == ["once", "always", "always"]


def test_equal_prompts_get_equal_answers_and_other_seeds_others(fake_worker: FakeWorker) -> None:
    same, again, other = (_text(_stream(fake_worker, seed=seed)) for seed in (1, 1, 2))
    assert same == again != other


def test_length_and_overrun(fake_worker: FakeWorker) -> None:
    fake_worker.script(Behaviour(tokens=9))
    events = _stream(fake_worker)
    assert events[-2]["usage"]["completion_tokens"] == 10  # the end token, which no content chunk counted
    assert events[-4]["usage"]["completion_tokens"] == 9
    fake_worker.script(Behaviour(overrun=3))
    assert _stream(fake_worker, max_tokens=4, ignore_eos=True)[-2]["usage"]["completion_tokens"] == 7


def test_reasoning_is_told_apart(fake_worker: FakeWorker) -> None:
    fake_worker.script(Behaviour(reasoning="I wonder", text="yes"))
    events = _stream(fake_worker)
    deltas = [event["choices"][0]["delta"] for event in events[:-2]]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "I wonder"
    assert _text(events) == "\n\nyes"
    usage = events[-2]["usage"]
    assert usage["reasoning_tokens"] == usage["completion_tokens_details"]["reasoning_tokens"] > 2
    assert _only(fake_worker).reasoning == usage["reasoning_tokens"]


def test_a_dropped_connection_ends_after_so_many_tokens(fake_worker: FakeWorker) -> None:
    fake_worker.script(Behaviour(drop_after=3, delay_ms=1))
    with opened(fake_worker.url, _CHAT, _body(rid="dropped")) as response:
        counts = [next_event(response).get("usage", {}).get("completion_tokens") for _ in range(4)]
        with pytest.raises(_BROKEN):
            response.read()
    assert counts == [None, 1, 2, 3]
    entry = _only(fake_worker)
    assert (entry.completion, entry.sent, entry.usage_sent) == (3, 3, False)


def test_a_dying_worker_takes_its_connections_with_it() -> None:
    with FakeWorker() as worker:
        worker.script(Behaviour(die_after=2, delay_ms=1))
        with opened(worker.url, _CHAT, _body()) as response:
            for _ in range(3):
                next_event(response)
            with pytest.raises(_BROKEN):
                response.read()
        worker.wait_dead()


def test_an_id_beyond_the_vocabulary_ends_the_worker() -> None:
    with FakeWorker() as worker:
        with pytest.raises(_BROKEN):
            call(worker.url, "/generate", {"input_ids": [10_000_000]})
        worker.wait_dead()


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_scripted_refusal(fake_worker: FakeWorker, status: int) -> None:
    fake_worker.script(Behaviour(status=status, message="/opt/secret/path"), times=1)
    answer = call(fake_worker.url, _CHAT, _body())
    assert answer.status == status
    assert "/opt/secret/path" in answer.json["message"]
    assert fake_worker.book_page().refused == 1
    assert call(fake_worker.url, _CHAT, _body()).status == 200


def test_a_full_queue_answers_a_stream_with_an_event_and_the_rest_with_503() -> None:
    with FakeWorker(Options(max_running=1, max_queued=0)) as worker:
        worker.script(Behaviour(stall_after=1), Match(text="first"))
        with opened(worker.url, _CHAT, _body("first", rid="first")) as response:
            next_event(response)
            worker.wait_for("first", tokens=1)
            streamed = call(worker.url, _CHAT, _body())
            assert streamed.status == 200
            assert streamed.events[0]["error"]["code"] == 503
            assert streamed.events[1]["usage"]["completion_tokens"] == 0
            assert streamed.events[2] == "[DONE]"
            assert b'{"error": {' in streamed.body  # this one event has spaces
            assert call(worker.url, _CHAT, _body(stream=False)).status == 503
            (event, _) = call(worker.url, "/generate", {"text": "a", "stream": True}).events
            assert event["meta_info"]["finish_reason"]["status_code"] == 503
            assert "prompt_tokens" not in event["meta_info"]


def test_the_queue_goes_by_priority_and_an_abort_in_it_reports_nothing() -> None:
    with FakeWorker(Options(max_running=1)) as worker:
        worker.script(Behaviour(stall_after=1), Match(text="first"))
        streams: dict[str, Any] = {}
        with opened(worker.url, _CHAT, _body("first", rid="first")) as first:
            worker.wait_for("first", tokens=1)
            with (
                _Unread(worker, streams, "low", priority=0),
                _Unread(worker, streams, "gone", priority=5),
                _Unread(worker, streams, "high", priority=9),
            ):
                call(worker.url, "/abort_request", {"rid": "gone"})
                gone = streams["gone"].read().events
                assert gone[1]["choices"][0]["finish_reason"] == "abort"
                assert gone[2]["usage"]["total_tokens"] == 0
                call(worker.url, "/abort_request", {"rid": "first"})
                assert first.read().endswith(b"[DONE]\n\n")
                for rid in ("low", "high"):
                    assert streams[rid].read().events[-1] == "[DONE]"
        began = {entry.rid: entry.first_token or 0.0 for entry in worker.wait_idle()}
        assert began["high"] < began["low"]
        assert call(worker.url, "/v1/loads").json["loads"][0]["num_running_reqs"] == 0


class _Unread:
    """A stream that was sent and is in the worker's book, its answer still unread."""

    def __init__(self, worker: FakeWorker, into: dict[str, Any], rid: str, *, priority: int) -> None:
        self._worker, self._into, self._rid, self._priority = worker, into, rid, priority

    def __enter__(self) -> None:
        self._worker_connection = http.client.HTTPConnection(self._worker.url.removeprefix("http://"), timeout=20)
        body = _body(self._rid, rid=self._rid, priority=self._priority, max_tokens=5)
        self._worker_connection.request("POST", _CHAT, json.dumps(body))
        self._worker.wait_for(self._rid)
        self._into[self._rid] = self

    def read(self) -> Answer:
        response = self._worker_connection.getresponse()
        return Answer(response.status, {}, response.read())

    def __exit__(self, *_: object) -> None:
        self._worker_connection.close()


@pytest.mark.parametrize(
    ("do", "shape"),
    [
        (Behaviour(tokens=3), "role 1 2 3 stop usage:4 done"),
        (Behaviour(tokens=3, usage=False), "role text text text stop done"),
        (Behaviour(tokens=3, final_usage=False), "role 1 2 3 stop done"),
        (Behaviour(tokens=3, done=False), "role 1 2 3 stop usage:4"),
        (Behaviour(tokens=3, finish="content_filter"), "role 1 2 3 content_filter usage:4 done"),
        (Behaviour(tokens=3, end_token=False), "role 1 2 3 stop usage:3 done"),
        (Behaviour(tokens=6, tokens_per_chunk=3), "role 3 6 stop usage:7 done"),
        (Behaviour(tokens=4, error_event_after=2), "role 1 error 2 abort usage:2 done"),
        (Behaviour(tokens=3, text="a"), "role 1 stop usage:2 done"),
    ],
)
def test_streams_that_end_oddly(fake_worker: FakeWorker, do: Behaviour, shape: str) -> None:
    fake_worker.script(do)
    assert " ".join(map(_shape, _stream(fake_worker, content="three words without oddities", max_tokens=40))) == shape


def _shape(event: Any) -> str:
    """One word for what an event is; content is its count."""
    match event:
        case "[DONE]":
            return "done"
        case {"error": _}:
            return "error"
        case {"choices": []}:
            return f"usage:{event['usage']['completion_tokens']}"
        case {"choices": [{"finish_reason": str(reason)}]}:
            return reason
        case {"choices": [{"delta": {"role": _}}]}:
            return "role"
        case _:
            return str(event["usage"]["completion_tokens"]) if "usage" in event else "text"


@pytest.mark.parametrize("do", [Behaviour(tokens=5, split_bytes=True), Behaviour(tokens=5, events_per_write=4)])
def test_other_cuts_of_the_bytes_carry_the_same_events(fake_worker: FakeWorker, do: Behaviour) -> None:
    fake_worker.script(Behaviour(tokens=5))
    plain = _stream(fake_worker, rid="same")
    fake_worker.reset()
    fake_worker.script(do)
    cut = _stream(fake_worker, rid="same")
    assert [_timeless(event) for event in cut] == [_timeless(event) for event in plain]


def _timeless(event: Any) -> Any:
    return event if event == "[DONE]" else {**event, "created": 0}


def test_a_malformed_chunk(fake_worker: FakeWorker) -> None:
    fake_worker.script(Behaviour(tokens=4, malformed_after=2))
    answer = call(fake_worker.url, _CHAT, _body())
    with pytest.raises(json.JSONDecodeError):
        _ = answer.events


def test_a_deaf_worker_does_not_hear_aborts_but_sees_the_client_leave(fake_worker: FakeWorker) -> None:
    fake_worker.script(Behaviour(stall_after=2, abort_deaf=True))
    with opened(fake_worker.url, _CHAT, _body(rid="deaf")):
        fake_worker.wait_for("deaf", tokens=2)
        call(fake_worker.url, "/abort_request", {"rid": "deaf"})
        assert fake_worker.book_page().live == ["deaf"]
    entry = _only(fake_worker)
    assert entry.aborted is None
    assert entry.disconnected is not None


@pytest.mark.parametrize(
    ("options", "spelling"),
    [
        (Options(spaces=True), b'"object": "chat.completion.chunk", '),
        (Options(cache_details="null"), b'"prompt_tokens_details":null'),
        (Options(cache_details="positive"), b'"prompt_tokens_details":null'),
    ],
)
def test_spellings(options: Options, spelling: bytes) -> None:
    with FakeWorker(options) as worker:
        assert spelling in call(worker.url, _CHAT, _body(max_tokens=2)).body


def test_cumulative_output_repeats_what_was_said() -> None:
    with FakeWorker(Options(cumulative=True)) as worker:
        assert call(worker.url, "/server_info").json["incremental_streaming_output"] is False
        body = {"text": "a", "stream": True, "sampling_params": {"max_new_tokens": 3, "ignore_eos": True}}
        *events, _ = call(worker.url, "/generate", body).events
        assert [len(event["output_ids"]) for event in events] == [1, 2, 3]
        assert events[1]["text"].startswith(events[0]["text"])


def test_a_router_hides_what_it_lacks_and_the_server_can_be_unwell(fake_worker: FakeWorker) -> None:
    with FakeWorker(Options(router=True)) as worker:
        for path, body in (("/abort_request", {"rid": "x"}), ("/v1/loads", None), ("/metrics", None)):
            assert call(worker.url, path, body).status == 404
    fake_worker.set_server(ServerState(health=503, model_info={"model_path": "other"}))
    assert call(fake_worker.url, "/health").status == 503
    assert call(fake_worker.url, "/model_info").json["model_path"] == "other"


def test_the_book_and_the_counters_agree(fake_worker: FakeWorker) -> None:
    before = fake_worker.book_page().counters
    fake_worker.script(Behaviour(tokens=3), times=2)  # ended by a token that no content chunk counts
    for number in range(5):
        _stream(fake_worker, content=f"question {number} " * number, max_tokens=7, n=1 + number % 2)
    page = fake_worker.book_page()
    assert page.counters.prompt - before.prompt == sum(entry.prompt for entry in page.entries)
    assert page.counters.generation - before.generation == sum(entry.completion for entry in page.entries)
    assert page.counters.cached - before.cached == sum(entry.cached for entry in page.entries)


@pytest.mark.parametrize("fields", [{}, {"n": 2}, {"stream": False}])
def test_no_scripted_fault_is_a_fault_of_the_double(fields: JsonObject, capfd: pytest.CaptureFixture[str]) -> None:
    with FakeWorker() as worker:
        worker.script(Behaviour(drop_after=2))
        with pytest.raises(_BROKEN):
            call(worker.url, _CHAT, _body(**fields))
        entry = _only(worker)
        assert entry.completion >= 2
        assert entry.disconnected is not None
        assert not entry.usage_sent
    assert capfd.readouterr().err == ""
