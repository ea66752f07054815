"""A double of an SGLang 0.5.23 worker, written from the documents of its wire and importing nothing of ours.

`python -m doubles.fake_worker --port 0` (with `tests/` on `sys.path`) prints one JSON line `{"url", "pid"}` when it
listens. Without a script it answers with text drawn from a hash of the prompt, so equal prompts get equal answers.
It keeps a **book** of every call it served (`GET /_book`), which is what exact metering is judged against.

What it does not do: compute attention, honour `regex` or `ebnf`, images, `/v1/completions`, batches in one call.
"""
