from doubles.fixtures import fake_worker, fake_worker_process

__all__ = ["fake_worker", "fake_worker_process"]
