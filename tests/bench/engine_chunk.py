"""What one chunk of a worker's stream costs the engine, in microseconds: `python tests/bench/engine_chunk.py`."""

from __future__ import annotations

import timeit

from museway_engine.worker.generate import GenerateStream
from museway_engine.worker.stream import ChatStream

_CHAT = (
    b'data: {"id":"req_01KABCDEFGHJKMNPQRSTVWXYZ0.a00000000","object":"chat.completion.chunk","created":1795544855,'
    b'"model":"muse","choices":[{"index":0,"delta":{"reasoning_content":null,"content":" capital"},"logprobs":null,'
    b'"finish_reason":null,"matched_stop":null}],"usage":{"prompt_tokens":37,"total_tokens":39,"completion_tokens":2,'
    b'"prompt_tokens_details":{"cached_tokens":0},"reasoning_tokens":0,"completion_tokens_details":null}}\n\n'
)
_GENERATE = (
    'data: {"text":" capital","output_ids":[3575],"meta_info":{"id":"r5","finish_reason":null,"prompt_tokens":37,'
    '"weight_version":"default","num_retractions":0,"reasoning_tokens":0,"completion_tokens":%d,"cached_tokens":36,'
    '"cached_tokens_details":{"device":36,"host":0},"dp_rank":null}}\n\n'
)


def chat_us(chunks_per_read: int, rounds: int = 20_000) -> float:
    """Microseconds per chunk of a chat stream, so many chunks in each read."""
    stream = ChatStream("req_01KABCDEFGHJKMNPQRSTVWXYZ0.a00000000", 0)
    data = _CHAT * chunks_per_read
    seconds = min(timeit.repeat(lambda: stream.feed(data), number=rounds // chunks_per_read, repeat=5))
    return seconds / (rounds // chunks_per_read) / chunks_per_read * 1e6


def generate_us(chunks: int = 4_000) -> float:
    """Microseconds per chunk of an incremental `/generate` stream."""
    events = [(_GENERATE % n).encode() for n in range(1, chunks + 1)]

    def read() -> None:
        stream = GenerateStream()
        for event in events:
            stream.feed(event)

    return min(timeit.repeat(read, number=1, repeat=5)) / chunks * 1e6


if __name__ == "__main__":
    print(f"chat, 1 chunk a read     {chat_us(1):.2f} µs per chunk")
    print(f"chat, 16 chunks a read   {chat_us(16):.2f} µs per chunk")
    print(f"generate, 1 chunk a read {generate_us():.2f} µs per chunk")
