"""What waiting costs: until a drop is seen, with many jobs, and with none."""
