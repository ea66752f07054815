"""The engine's own environment and process: install SGLang and a model, launch workers, keep them alive.

Nothing here imports SGLang: it lives in an environment of its own (`install`), runs as processes of its own (`launch`,
`supervise`) and is spoken to over HTTP. This folder itself stands on a worker's PYTHONPATH, because `sglang_cpu` is
started from it: no module here may have the name of one that SGLang imports (a test holds that).
"""
