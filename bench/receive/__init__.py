"""How fast instances are received, beside other programs in the same run: `python -m bench.receive`."""
