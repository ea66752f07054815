"""Several agents think at once: watch them, then read what each of them cost."""

from museway import AgentProgress, Museway, OutputDelta, PhaseStarted

with Museway() as client:
    with client.stream("What is six times seven?", mode="contemplating", agents=3, max_tokens=60) as stream:
        for event in stream:
            match event:
                case PhaseStarted(phase=phase):
                    print(f"-- {phase}")
                case AgentProgress(index=index, state="done" | "stopped" as state, tokens=tokens):
                    print(f"   agent {index} {state} after {tokens} tokens")
                case OutputDelta(text=text):
                    print(text, end="", flush=True)
                case _:
                    pass

print()
for agent in stream.reply.agents:
    print(f"{agent.phase} {agent.index}: {agent.completion_tokens} tokens, {agent.cost_nano_usd} nano-USD")
