"""What is looked at before a guest moves: checks, each a file and a pure function of facts, and their findings.

Rule: nothing here asks anybody anything. Who gathers the facts asks for what the checks need, and for nothing else.
"""
