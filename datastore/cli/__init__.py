"""The command line: the only layer that knows arguments, environment, terminal and colour."""
