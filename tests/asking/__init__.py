"""Asking an engine in tests: an allowance that keeps a book, and short ways to run a request."""
