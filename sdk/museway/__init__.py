"""The Python SDK of Museway: one model, several ways to answer, an exact bill.

from museway import Museway

with Museway() as client:
    reply = client.generate("Why is the sky blue?", mode="thinking")
    print(reply.text, reply.cost)
"""

from museway._version import __version__
from museway.async_client import AsyncMuseway
from museway.client import Museway
from museway.errors import (
    AuthenticationError,
    CapReachedError,
    ConfigurationError,
    ConflictError,
    ConnectionError,  # noqa: A004 (meant: it is also the built-in one)
    InsufficientCreditError,
    InvalidAnswerError,
    InvalidReceiptError,
    InvalidRequestError,
    MusewayError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    ReceiptPendingError,
    ServerError,
    StatusError,
    StreamInterruptedError,
    StreamRestartedError,
    TimeoutError,  # noqa: A004 (meant: it is also the built-in one)
)
from museway.events import (
    AgentProgress,
    Event,
    Finished,
    ModeChosen,
    OutputDelta,
    PhaseStarted,
    ReasoningDelta,
    ToolCallDelta,
    UsageReport,
)
from museway.options import Options, Prompt
from museway.receipts import Receipt, verify_receipt
from museway.reply import Cost, RateLimit, Reply, ToolCall, Window
from museway.retry import RetryPolicy
from museway.streams import AsyncStream, Stream

__all__ = [
    "AgentProgress",
    "AsyncMuseway",
    "AsyncStream",
    "AuthenticationError",
    "CapReachedError",
    "ConfigurationError",
    "ConflictError",
    "ConnectionError",
    "Cost",
    "Event",
    "Finished",
    "InsufficientCreditError",
    "InvalidAnswerError",
    "InvalidReceiptError",
    "InvalidRequestError",
    "ModeChosen",
    "Museway",
    "MusewayError",
    "NotFoundError",
    "Options",
    "OutputDelta",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "PhaseStarted",
    "Prompt",
    "RateLimit",
    "RateLimitError",
    "ReasoningDelta",
    "Receipt",
    "ReceiptPendingError",
    "Reply",
    "RetryPolicy",
    "ServerError",
    "StatusError",
    "Stream",
    "StreamInterruptedError",
    "StreamRestartedError",
    "TimeoutError",
    "ToolCall",
    "ToolCallDelta",
    "UsageReport",
    "Window",
    "__version__",
    "verify_receipt",
]
