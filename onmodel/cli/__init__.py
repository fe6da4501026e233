"""The command line: one file per verb — parse, call, print. Nothing here decides anything."""
