import http.client
import json
from urllib.parse import urlsplit

from doubles.worker_process import Behaviour, FakeWorker, Match, Options


def test_it_starts_answers_keeps_its_book_and_stops() -> None:
    with FakeWorker(Options(model="other")) as worker:
        worker.script(Behaviour(text="FINAL: 42"), Match(text="marker"))
        target = urlsplit(worker.url)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=5)
        body = {"messages": [{"role": "user", "content": "a marker"}], "rid": "r-1"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        answer = json.loads(connection.getresponse().read())
        connection.close()
        assert answer["choices"][0]["message"]["content"] == "FINAL: 42"
        (entry,) = worker.wait_idle()
        assert (entry.rid, entry.prompt, entry.completion) == ("r-1", *_counts(answer))
        assert worker.requests()[0].body["rid"] == "r-1"
        worker.restart()
        assert worker.book() == []


def _counts(answer: dict[str, dict[str, int]]) -> tuple[int, int]:
    return answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]
