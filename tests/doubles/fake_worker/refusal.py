"""What the worker answers instead of an answer, in the shapes that each route of SGLang 0.5.23 gives it."""

from doubles.fake_worker.shapes import JsonObject

QUEUE_FULL = "The request queue is full."


class Refusal(Exception):
    """A request that is not run: status, message and the error type of the chat routes."""

    def __init__(self, status: int, message: str, kind: str = "BadRequestError") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind

    def chat_body(self) -> JsonObject:
        """The shape of `/v1/…`."""
        return {"object": "error", "message": self.message, "type": self.kind, "param": None, "code": self.status}

    def generate_body(self) -> JsonObject:
        """The shape of `/generate`, another one."""
        return {"error": {"message": self.message}}

    def generate_event(self) -> JsonObject:
        """A stream of `/generate` is refused by an event, after status 200."""
        kind = "invalid_request_error" if self.status < 500 else "internal_error"
        return {"error": {"message": self.message, "type": kind, "code": self.status, "retryable": False}}


class QueueFull(Refusal):
    """No room among the waiting. A stream is answered with status 200 and an error event, everything else with 503."""

    def __init__(self) -> None:
        super().__init__(503, QUEUE_FULL, "503")

    def generate_body(self) -> JsonObject:
        return self.chat_body()

    def event_body(self) -> JsonObject:
        """The error event of a stream."""
        return {"error": {**self.chat_body(), "type": "SERVICE_UNAVAILABLE"}}
