"""Know the price before, bound it, and see by type what stopped a request."""

from museway import CapReachedError, Cost, InsufficientCreditError, InvalidRequestError, Museway

question = "Write a long poem about rain."

with Museway() as client:
    for mode, price in client.quote(question, max_tokens=100).items():
        print(f"{mode}: likely {Cost(price.likely)}, never more than {Cost(price.worst)}")
    print(f"{Cost(client.balance().available_nano_usd)} left")

    try:
        client.generate(question, mode="instant", max_tokens=100, max_cost_nano_usd=1)
    except InvalidRequestError as error:
        print(f"refused before it ran: {error.code}")
    except (InsufficientCreditError, CapReachedError) as error:
        print(f"no money left for it: {error}")

    reply = client.generate(question, mode="instant", max_tokens=100, max_cost_nano_usd=50_000)
    print(f"it came to {reply.cost} and ended with {reply.finish_reason!r}")
