"""What authors of tasks share, by calling it: folders, tables, splits, class names, pictures, words, drawing."""
