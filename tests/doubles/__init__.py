"""Stand-ins for what the platform talks to, each a separate process or socket; none of them imports our code."""
