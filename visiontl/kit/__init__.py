"""What authors of tasks share, by calling it: pictures, words, drawing."""
