"""Features of frozen backbones on disk: computed once, found again by any run that asks for the same."""
