"""The file system: drops, jobs, statuses, results; durable."""
