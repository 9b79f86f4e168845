"""A trained or exported model behind HTTP: pictures in, answers out. The model runs in a process of its own."""
