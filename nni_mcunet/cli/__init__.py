"""Hold the command lines: a module a command, opened by main.py."""
