"""Pure functions on bytes: digests and chunk boundaries. No I/O, no clock, no randomness."""
