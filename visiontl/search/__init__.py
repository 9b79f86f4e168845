"""Which settings, which learning rate and batch, which backbone: answered by many short runs or by features."""
