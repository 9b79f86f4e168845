"""What a run shows: the pieces of a report, its page, its curves, and the console."""
