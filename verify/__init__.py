"""The harness: decides which claims hold, with evidence. Run it with ``python -m verify``."""
