"""The command line: a face, one small file a verb, no logic."""
