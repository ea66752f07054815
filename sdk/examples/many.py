"""Several questions at once, on an event loop."""

import asyncio

from museway import AsyncMuseway, Cost

QUESTIONS = ["Name a colour.", "Name a bird.", "Name a river."]


async def main() -> None:
    async with AsyncMuseway() as client:
        replies = await asyncio.gather(*[client.generate(q, mode="instant", max_tokens=20) for q in QUESTIONS])
    for question, reply in zip(QUESTIONS, replies, strict=True):
        print(f"{question} {reply.text}")
    print(sum((reply.cost for reply in replies if reply.cost), Cost(0)))


asyncio.run(main())
