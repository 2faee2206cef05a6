"""What a disc costs by its size."""
