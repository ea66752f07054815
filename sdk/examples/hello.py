"""One question, one answer, and what it cost to the nano-dollar."""

from museway import Museway

with Museway() as client:
    reply = client.generate("Why is the sky blue? One sentence.", mode="instant", max_tokens=60)

print(reply.text)
print(f"{reply.cost} for request {reply.request_id}")
