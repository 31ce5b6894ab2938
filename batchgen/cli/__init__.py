"""The command line: parse, build, call one thing, print, exit code."""
