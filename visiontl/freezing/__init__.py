"""What trains, when and how fast: policies, what the loss reads, and the one function that freezes."""
