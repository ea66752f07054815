"""A visible chain of thought, then the answer, as they come."""

from museway import Museway, OutputDelta, ReasoningDelta

with Museway() as client:
    with client.stream("What is 17 * 23?", mode="thinking", effort="low", max_tokens=120) as stream:
        for event in stream:
            match event:
                case ReasoningDelta(text=text):
                    print(f"\033[2m{text}\033[0m", end="", flush=True)
                case OutputDelta(text=text):
                    print(text, end="", flush=True)
                case _:
                    pass

print()
usage = stream.reply.usage
if usage is not None:
    print(f"{usage.completion_tokens_details.reasoning_tokens} tokens of reasoning, {stream.reply.cost}")
