"""The whole job, beside what a user would do with DCMTK."""
