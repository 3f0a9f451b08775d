"""What single settings may be, and how a file of settings is edited."""
