"""How soon a disc is done once the last instance has come."""
