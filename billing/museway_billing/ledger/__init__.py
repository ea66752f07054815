"""The ledger: double entry, append-only, balances derivable from transfers alone. See README.md."""

from museway_billing.ledger.account import AccountKind, Balance, Credit, GrantKind, account_id, credit_id
from museway_billing.ledger.posting import Posting, post_usage
from museway_billing.ledger.transfer import Transfer, TransferKind, TransferPhase, TransferRefused

__all__ = [
    "AccountKind",
    "Balance",
    "Credit",
    "GrantKind",
    "Posting",
    "Transfer",
    "TransferKind",
    "TransferPhase",
    "TransferRefused",
    "account_id",
    "credit_id",
    "post_usage",
]
