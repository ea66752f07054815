"""Load tests: the cost of a request and of a chunk beside a skeleton and nginx (`run`), and every token billed (`judge`)."""
