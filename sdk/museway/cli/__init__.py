"""The console script `museway`."""

from museway.cli.dispatch import main

__all__ = ["main"]
