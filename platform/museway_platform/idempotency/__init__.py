"""Same Idempotency-Key, same answer, one bill (invariant I7): who runs under a key, and what was answered under it.

`names`: a key as we keep it · `run`: a request under way and its readers · `frame`, `segments`, `kept`: finished answers on
the disk, encrypted · `registry`: the one question "is this key new, running or done?" · `share`: the same question between
processes. Knows no HTTP and no engine.
"""
