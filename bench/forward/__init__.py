"""How fast instances are sent, beside other programs in the same run: `python -m bench.forward`."""
