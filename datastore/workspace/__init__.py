"""The user's files and their Git repository: pointers, scan, checkout, ignore rules."""
