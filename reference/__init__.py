"""The ground truth: plain, dense, readable NumPy. Start with `reference/notation.py`."""
