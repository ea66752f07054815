"""Prove a charge without trusting the server: pip install 'museway[verify]'."""

from museway import Cost, Museway

with Museway() as client:
    reply = client.generate("Name a colour.", mode="instant", max_tokens=20)
    assert reply.request_id is not None
    receipt = client.receipt(reply.request_id)

receipt.verify()
for line in receipt.signed.receipt.lines:
    print(f"{line.class_}: {line.tokens} tokens at {line.price_nano_usd_per_mtok} nano-USD/M = {line.amount_nano_usd}")
print(f"signed: {Cost(receipt.total_nano_usd)}")
assert Cost(receipt.total_nano_usd) == reply.cost
