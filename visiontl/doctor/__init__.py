"""What is wrong with the data, before the first training second."""
