"""What ranks say to each other: collectives, seeds, signals, and who is still alive."""
